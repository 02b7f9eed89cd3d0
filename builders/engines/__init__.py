"""Where cohorts are trained: in this process, in worker processes, on Ray or Slurm."""
