"""The guide as pages: make docs"""

project = "lifelong_ct"
copyright = "The lifelong_ct authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Hospitals arrive one after another", "page_width": "60rem"}
html_show_sphinx = False
