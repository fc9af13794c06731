"""Pure functions from results to text: the same result gives the same bytes.

terminal, audit_terminal    Rich renderables, fitted to a width by `fit`
markdown, audit_markdown    GitHub Markdown, made of the pieces in `mdtext`
jsondoc, csvdoc, junit, sarif, github   one format each
plots                       a profile as a figure (matplotlib)
summary, headlines, audit_words, audit_rows, origins, numbers   the sentences, rows and numbers
that several formats share
"""
