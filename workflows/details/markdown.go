package details

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/rekeyhq/rekey/rotation"
)

// The pages that the Temporal UI shows are Markdown, and much on them was written by others: names of keys, reasons,
// errors. Such text passes one of Escape, prose, code and link, and comes out as one line that says what it says and is
// nothing else: no markup, no HTML, no image, and no link. The tests hold this against the renderer of the
// Temporal UI, and one for CommonMark with GitHub's extensions (internal/markdowntest).

// plain is a text in one line, of characters that a person sees.
func plain(text string) string {
	seen := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r):
			return ' '
		case !rotation.OneLine(string(r)):
			return -1 // it hides, or turns the direction of writing around
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.TrimSpace(seen)
}

// unquotable is what code cannot hold.
var unquotable = strings.NewReplacer("`", "'", "<", "‹", ">", "›")

// code shows a text as code. Nothing in it has a meaning but what ends it, and what some renderers look for even there.
func code(text string) string {
	text = unquotable.Replace(plain(text))
	if text == "" {
		text = "-" // two backticks would begin a code that ends elsewhere
	}
	return "`" + text + "`"
}

// Escape takes the meaning out of markup in text that came from elsewhere. What a renderer would make a link of becomes
// code: no escape keeps all of them from it.
func Escape(text string) string { return escapePlain(plain(text), nil) }

// input is what a message takes, quoted in a sentence.
var input = regexp.MustCompile("\\{\"[^{}`<>\\n]*\\}")

// prose escapes a text of ours that quotes others, and may quote the input of a message. That becomes code: in plain text
// the UI sets typographic quotes, and what somebody copies would be no JSON. An address stays a link only if it is one of
// own, to the letter.
func prose(text string, own ...string) string {
	text = plain(text)
	var b strings.Builder
	for at := input.FindStringIndex(text); at != nil; at = input.FindStringIndex(text) {
		join(&b, escapePlain(text[:at[0]], own))
		join(&b, code(text[at[0]:at[1]]))
		text = text[at[1]:]
	}
	join(&b, escapePlain(text, own))
	return b.String()
}

// join keeps two pieces of code apart: two backticks side by side are neither an end nor a begin.
func join(b *strings.Builder, part string) {
	if strings.HasSuffix(b.String(), "`") && strings.HasPrefix(part, "`") {
		b.WriteByte(' ')
	}
	b.WriteString(part)
}

var (
	// word is what an address can be in: it ends where a renderer's would at the latest.
	word = regexp.MustCompile("[^ <>`]+")
	// linkish is in whatever renderers make a link of without being asked to: addresses of pages and of people.
	linkish = regexp.MustCompile(`(?i)://|www\.|@|mailto:|xmpp:`)
	// ordered is what begins a numbered list.
	ordered = regexp.MustCompile(`^([0-9]{1,9})([.)])`)
)

func escapePlain(text string, own []string) string {
	if !linkish.MatchString(text) {
		return escapeBegin(escapeMarkup(text)) // the page is written at every message, and few texts hold an address
	}
	var b strings.Builder
	at := 0
	for _, w := range word.FindAllStringIndex(text, -1) {
		if !linkish.MatchString(text[w[0]:w[1]]) {
			continue
		}
		join(&b, escapeMarkup(text[at:w[0]]))
		join(&b, address(text[w[0]:w[1]], own))
		at = w[1]
	}
	join(&b, escapeMarkup(text[at:]))
	return escapeBegin(b.String())
}

// address shows a word that a renderer might make a link of: rekey's own as it is, any other as code.
func address(word string, own []string) string {
	core := strings.TrimRight(word, ".,")
	if slices.Contains(own, core) && isAddress(core) {
		return word
	}
	core = strings.Trim(word, `"'().,;:!?`)
	i := strings.Index(word, core)
	return escapeMarkup(word[:i]) + code(core) + escapeMarkup(word[i+len(core):])
}

var markup = strings.NewReplacer(`\`, `\\`, "`", "'", "<", "&lt;", ">", "&gt;", "&", "&amp;", "[", `\[`, "]", `\]`, "*", `\*`, "~", `\~`, "|", `\|`, "$", `\$`)

func escapeMarkup(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(markup.Replace(text), "_") {
		// Within a word it means nothing, and names with many of them stay readable.
		if before := b.String(); i > 0 && !(endsAlphanumeric(before) && part != "" && alphanumeric(part[0])) {
			b.WriteByte('\\')
		}
		if i > 0 {
			b.WriteByte('_')
		}
		b.WriteString(part)
	}
	return b.String()
}

func endsAlphanumeric(text string) bool { return text != "" && alphanumeric(text[len(text)-1]) }

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// escapeBegin takes the meaning out of what would begin a heading, a list or a definition.
func escapeBegin(text string) string {
	if text != "" && strings.IndexByte("#-+:", text[0]) >= 0 {
		return `\` + text
	}
	return ordered.ReplaceAllString(text, `$1\$2`)
}

// simple is a name as rekey.yaml can have it.
var simple = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9 -]*[A-Za-z0-9])?$`)

// bold shows a name in bold, and one that nobody can have given a key or a source as code: renderers do not agree on where
// bold ends behind an escape.
func bold(name string) string {
	if name = plain(name); simple.MatchString(name) {
		return "**" + name + "**"
	}
	return code(name)
}

// isAddress reports whether an address can be a link in Markdown.
func isAddress(text string) bool {
	return strings.HasPrefix(text, "https://") && !strings.ContainsAny(text, " <>()[]\\\"'`\n")
}

// link makes a link of an address that can be one, and of another a text.
func link(text, address string) string {
	if !isAddress(address) {
		return Escape(text)
	}
	return "[" + label(text) + "](" + address + ")"
}

// label is the text of a link: renderers look for its end, and some do not care for escapes or code in it.
func label(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" .-", r) {
			return r
		}
		return ' '
	}, plain(text))
}
