"""How study files are read: lines, complaints, narrowed ranges, and their JSON Schema."""
