"""What are people and programs shown? Rows, reasons and standings in their public form, the same in CLI, HTTP and console.

Nothing here changes anything, and nothing here knows how it is transported.
"""
