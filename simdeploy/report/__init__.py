"""What people look at: tables, figures and the reports of the shipped scenarios."""
