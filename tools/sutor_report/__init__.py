"""Token stores -> a page about the data, as text and as HTML: `sutor prepare --report`."""
