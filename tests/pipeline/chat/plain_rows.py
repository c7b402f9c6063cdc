"""What a recipe says of rows where a test looks at what comes before them."""

ROWS = """
template:
  text: "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"
sequences: {length: 64, layout: concat, whole_documents: false}
"""
