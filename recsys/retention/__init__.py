"""What goes: old days, versions, models, records and scratch files; and what stays because something needs it."""
