"""What the limiter and its servers say of their health.

hooks/    look at one thing each, and say what is wrong with it
registry  hooks, registered by decorator; diagnosis  runs them all, the worst finding first
management/commands/doctor.py  the command
collecting/  what is looked at every ten seconds; sampling  kept as samples, by tasks, in turns
rolling  samples become coarser and go; history  read back; admin/health.py  the page
"""
