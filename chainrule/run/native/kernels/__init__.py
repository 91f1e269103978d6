"""The kernels: functions that write LLVM text for one task of a plan."""
