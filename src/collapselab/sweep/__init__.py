"""Many runs from one description: planned (`grid`) and executed (`schedule`, `executors`)."""
