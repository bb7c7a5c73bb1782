"""What the limiter and its servers say of their health.

hooks/    look at one thing each, and say what is wrong with it
registry  hooks, registered by decorator; diagnosis  runs them all, the worst finding first
management/commands/doctor.py  the command
"""
