package openai

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// token is what an Authorization header can hold (RFC 6750), long enough that a shortened display of a key
// ("sk-...abcd") is not one.
var token = regexp.MustCompile(`^sk-[A-Za-z0-9._~+/=-]{17,509}$`)

// foreign are keys that begin like OpenAI's and are none of a project's. None of them may be sent to OpenAI's
// API by mistake, least of all an admin key.
var foreign = []struct{ prefix, advice string }{
	{"sk-admin-", "This is an admin key: it makes and revokes keys and cannot call models. Make a key of the project instead, and revoke this one if it was pasted where others can read."},
	{"sk-ant-", "This is a key of Anthropic, not of OpenAI."},
	{"sk-or-", "This is a key of OpenRouter, not of OpenAI."},
}

// quotes are what may surround a pasted key, opening and closing.
var quotes = map[string]string{`"`: `"`, "'": "'", "`": "`", "“": "”", "‘": "’"}

// Parse takes the white space and quotes of a paste away. KeyID and Account stay empty: a key of OpenAI does not
// tell them. Shown is how the console lists the key. What is not one token that starts with `sk-`, or is the key of something else, is Rejected.
func (p *Provider) Parse(v secret.Value) (provider.Parsed, error) {
	text := unwrap(v.Reveal())
	for _, f := range foreign {
		if strings.HasPrefix(text, f.prefix) {
			return provider.Parsed{}, fault.New(fault.Rejected, "wrong_kind_of_key", "read a key of "+p.options.Name).WithAdvice("%s", f.advice)
		}
	}
	if !token.MatchString(text) {
		return provider.Parsed{}, fault.New(fault.Rejected, "not_a_key", "read a key of "+p.options.Name).
			WithAdvice("A key is one word that starts with sk-. Copy it whole from the console, where it is shown once; the list shows it shortened.")
	}
	return provider.Parsed{Value: secret.FromString(text), Shown: shown(text)}, nil
}

// longEnough is how long a key must be before four of its characters are shown: what is left is beyond guessing.
const longEnough = 40

// shown is the key as the console's list shows it. OpenAI documents it for its API only, as redacted_value of
// GET /organization/projects/{id}/api_keys ("sk-...def"); people describe the console's column as `sk-...` and the last
// four characters. The end is what distinguishes keys in either.
func shown(text string) string {
	if len(text) < longEnough {
		return ""
	}
	return "sk-..." + text[len(text)-4:]
}

func unwrap(text string) string {
	invisible := func(r rune) bool {
		return unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff'
	}
	for {
		text = strings.TrimFunc(text, invisible)
		inner := text
		for open, closing := range quotes {
			if len(text) >= len(open)+len(closing) && strings.HasPrefix(text, open) && strings.HasSuffix(text, closing) {
				inner = text[len(open) : len(text)-len(closing)]
			}
		}
		if inner == text {
			return text
		}
		text = inner
	}
}
