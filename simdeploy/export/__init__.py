"""A plan for people and for other tools: runbook, Ansible playbook, shell script, flowchart."""
