package details

import (
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// maxPage keeps a page under the size that travels well in a URL.
const maxPage = 1900

// Moment writes a moment for people.
func Moment(t time.Time) string { return t.UTC().Format(rotation.MinuteLayout) }

// Sentence ends a text with a full stop, unless it ends with an address or already does.
func Sentence(text string) string {
	text = strings.TrimSpace(text)
	last := text[strings.LastIndexByte(text, ' ')+1:]
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".!?:") || strings.HasSuffix(text, "…") || strings.HasPrefix(last, "https://") {
		return text
	}
	return text + "."
}

// clip shortens a text that came from elsewhere, between words.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = strings.ToValidUTF8(text[:most], "")
	if i := strings.LastIndexByte(text, ' '); i > most/2 {
		text = text[:i]
	}
	return text + " …"
}

// fit makes a page of a text that came from elsewhere, cut until the page is short enough to be shown.
func fit(page func(most int) string) string {
	for _, most := range []int{1200, 700, 400, 250, 150, 80, 40} {
		if text := page(most); len(text) <= maxPage {
			return text
		}
	}
	return wholeLines(page(0))
}

// wholeLines is as much of a page as can be shown. Within a line it would be cut in the middle of an escape or of code, and
// what follows would get a meaning.
func wholeLines(text string) string {
	const rest = "\n…"
	if len(text) <= maxPage {
		return text
	}
	text = text[:maxPage-len(rest)]
	i := strings.LastIndexByte(text, '\n')
	if i < 0 {
		return "This page would be too long. `rekey status` has what it says."
	}
	return text[:i] + rest
}
