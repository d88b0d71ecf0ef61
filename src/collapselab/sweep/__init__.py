"""Many runs from one description: planned (`grid`), carried out (`schedule`, `local`), watched (`watch`)."""
