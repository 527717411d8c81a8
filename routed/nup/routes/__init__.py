"""NUP's route table: feasibility, selection, policy."""
