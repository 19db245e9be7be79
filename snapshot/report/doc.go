// Package report writes the quality report of a dataset: one HTML file that
// stands alone.
//
// Render takes plain data and returns a page that needs no script, no network
// and no other file: styles are inside, charts are inline SVG drawn by
// gonum.org/v1/plot. It follows the reader's choice of light or dark, prints,
// and can be read without seeing the charts, since every chart has a
// description and a table of the same figures.
//
// # Promises
//
//   - The same Data gives the same bytes, whatever the machine's clock, locale
//     or number of processors.
//   - What the page shows stands in Data, so that metadata which carries Data
//     (its types have JSON names) carries every number of the page.
//   - Data that contradicts itself, or that would show an exact minimum or
//     maximum of a quasi-identifying column, is refused with an error
//     (Data.Validate); nothing is written then.
//
// # What it does not do
//
// It computes no statistic, hides no small cell and decides no gate: whoever
// fills Data has done so. It never sees a row of the dataset.
package report
