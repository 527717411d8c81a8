"""The observer: reads what the programs in the kernel count, without privileges."""
