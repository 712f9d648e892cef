"""The report: one HTML file that needs no network, and the same charts as PNG, SVG and PDF for papers.

`charts`, `agreement_charts` and `reliability_charts` make Vega-Lite specifications, `gallery` collects the images,
`page` puts both into the template, `pictures` draws the charts for print. Vega comes with vl-convert, which draws the
pictures.
"""
