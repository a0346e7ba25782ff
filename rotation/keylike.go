package rotation

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// keyLike is what the keys of the providers we know look like, and long runs without a space that nothing
// readable has.
var keyLike = regexp.MustCompile(`sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{20,}|-----BEGIN|"private_key"|([A-Za-z0-9+_=]{48,})`)

// names is a long run that is a name all the same, TheNameOfATest1234 or THE_NAME_OF_A_VARIABLE, or a line that somebody
// drew: in what is random, digits stand among the letters.
var names = regexp.MustCompile(`^(?:[A-Za-z]*[0-9]{0,10}(?:_|$))+$|^[_=+]+$`)

// LooksLikeKey reports whether a text holds what looks like a key. Escapes of JSON and characters that nobody sees do
// not hide one.
func LooksLikeKey(text string) bool { return firstKey(text) != "" }

// firstKey is the first thing in a text that looks like a key.
func firstKey(text string) string {
	text = revealed(text)
	for _, at := range keyLike.FindAllStringSubmatchIndex(text, -1) {
		found := text[at[0]:at[1]]
		if strings.HasPrefix(found, "sk-") && readable(found[len("sk-"):], at[0] > 0 && alphanumeric(rune(text[at[0]-1]))) {
			continue
		}
		if onlyLong := at[2] >= 0; onlyLong && names.MatchString(found) {
			continue
		}
		return found
	}
	return ""
}

// readable reports whether what follows "sk-" is words with hyphens, as in task-force-of-the-north or
// sk-ecdsa-sha2-nistp256. within: the "sk" is the end of a word.
func readable(text string, within bool) bool {
	var upper, lower, digit bool
	for _, r := range text {
		upper, lower, digit = upper || r >= 'A' && r <= 'Z', lower || r >= 'a' && r <= 'z', digit || r >= '0' && r <= '9'
	}
	if upper && lower && digit || digit && len(text) >= 40 {
		return false
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == '-' || r == '_' }) {
		if len(word) >= 16 && (!within || strings.ContainsAny(word, "0123456789")) {
			return false
		}
	}
	return true
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// escaped is a character as JSON can write it; a text within a text has more backslashes.
var escaped = regexp.MustCompile(`\\+u([0-9A-Fa-f]{4})`)

// revealed is a text without escapes and without characters that nobody sees.
func revealed(text string) string {
	if strings.Contains(text, `\u`) {
		text = escaped.ReplaceAllStringFunc(text, func(e string) string {
			n, _ := strconv.ParseUint(e[len(e)-4:], 16, 32) // the pattern lets nothing else through
			return string(rune(n))
		})
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, text)
}

// OneLine reports whether a text is one line in which a person sees what there is: nothing in it moves the cursor,
// turns the direction of writing around, or hides.
func OneLine(text string) bool { return !strings.ContainsFunc(text, unseen) }

// unseen are control and format characters, but for the two that join letters and emoji.
func unseen(r rune) bool {
	const joiner, nonJoiner = '\u200d', '\u200c'
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != joiner && r != nonJoiner || r == '\u2028' || r == '\u2029'
}

// unseen names the first field of a message with characters that are not to be shown to anybody. A reason may have
// several lines.
func (m DecisionMessage) unseen() string {
	why := strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(m.Why)
	m.Why = why
	for _, f := range m.fields() {
		if !OneLine(f.text) {
			return f.name
		}
	}
	return ""
}
