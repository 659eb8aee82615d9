"""What users write against: @agent, @tool, Context. Emits commands; knows no kernel, store or network."""
