#!/usr/bin/env bash
# A Slurm cluster of this one machine, for tests: `cluster.sh start FOLDER`, `cluster.sh stop FOLDER`. As root.
# Debian: apt-get install slurm-wlm munge. All state is below FOLDER, which nobody else may write; the environment
# needs SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
action=$1 folder=$2
export SLURM_CONF="$folder/slurm.conf"

stop() {
  # The processes of jobs are not children of the daemons, and would stay.
  timeout 10 scancel --quiet --user=root || true
  for _ in $(seq 150); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 0.1
  done
  for name in slurmd slurmctld munged; do
    [ -f "$folder/$name.pid" ] || continue
    pid=$(cat "$folder/$name.pid")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  done
}

start() {
  install -d -m 755 "$folder" "$folder/state" "$folder/spool"
  (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
  host=$(hostname -s)
  memory_kb=$(awk "/MemTotal/ {print \$2}" /proc/meminfo)
  cat > "$SLURM_CONF" <<END
ClusterName=collapselab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is queued again waits as long as a credential lives (120 s unless it is said).
AuthInfo=socket=$folder/munge.socket,cred_expire=20
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
KillWait=10
ReturnToService=2
SchedulerParameters=sched_min_interval=500000
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$((memory_kb * 9 / 10240)) State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
  slurmctld -c
  slurmd -c
  for _ in $(seq 300); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
    sleep 0.1
  done
  sinfo >&2 || true
  tail -n 20 "$folder"/*.log >&2
  stop
  exit 1
}

"$action"
