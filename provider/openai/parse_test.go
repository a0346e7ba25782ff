package openai_test

import (
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider/openai"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

func TestAPasteIsRead(t *testing.T) {
	_, _, p := start(t, simcloud.OpenAIOptions{})
	const plain = "sk-proj-AbC_0123456789-abcdefghij"
	for sentence, text := range map[string]string{
		"as it is":                     plain,
		"with a line break":            plain + "\r\n",
		"with quotes":                  ` "` + plain + `" `,
		"with quotes within quotes":    `'"` + plain + `"'`,
		"with typographic quotes":      "“" + plain + "”",
		"with a no-break space":        "\u00a0" + plain + "\u200b",
		"with a byte order mark":       "\ufeff" + plain,
		"with back quotes and a break": "`" + plain + "\n`",
	} {
		parsed, err := p.Parse(secret.FromString(text))
		if err != nil || parsed.Value.Reveal() != plain || parsed.KeyID != "" || parsed.Account != "" {
			t.Errorf("%s: %+v, %v", sentence, parsed, err)
		}
	}
}

func TestAPasteThatIsNoKeyIsRejectedWithAdvice(t *testing.T) {
	_, _, p := start(t, simcloud.OpenAIOptions{})
	for sentence, text := range map[string]string{
		"nothing":                        "",
		"white space":                    " \n",
		"a word":                         "correct-horse-battery-staple",
		"the prefix alone":               "sk-",
		"the shortened form of the list": "sk-proj-...WXYZ",
		"the masked form":                "sk-proj-****************************WXYZ",
		"two keys":                       "sk-proj-0123456789abcdefghij sk-proj-0123456789abcdefghij",
		"a key broken over two lines":    "sk-proj-0123456789\nabcdefghijklmnop",
		"an assignment":                  "OPENAI_API_KEY=sk-proj-0123456789abcdefghij",
		"a quote that is not closed":     `"sk-proj-0123456789abcdefghij`,
		"letters of another script":      "sk-proj-0123456789абвгдежзик",
		"a control character":            "sk-proj-0123456789\x00abcdefghij",
		"a novel":                        "sk-" + strings.Repeat("a", 4096),
		"an admin key":                   "sk-admin-0123456789abcdefghijklmnop",
		"an admin key in quotes":         `"sk-admin-0123456789abcdefghijklmnop"`,
		"a key of Anthropic":             "sk-ant-api03-0123456789abcdefghijklm",
		"a key of OpenRouter":            "sk-or-v1-0123456789abcdefghijklmnop",
	} {
		_, err := p.Parse(secret.FromString(text))
		if f := fault.Of(err); f.Class != fault.Rejected || f.Code == "" || f.Advice == "" {
			t.Errorf("%s: %v", sentence, err)
		} else if len(text) > 8 && strings.Contains(err.Error(), text[len(text)-8:]) {
			t.Errorf("%s: repeated in %v", sentence, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	p, err := openai.New(openai.Options{})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"sk-proj-0123456789abcdefghij", `"sk-x"`, "‘’", "\"", "sk-admin-0123456789abcdefghij"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := p.Parse(secret.FromString(text))
		if err != nil {
			if !fault.Is(err, fault.Rejected) {
				t.Error(err)
			}
			return
		}
		twice, err := p.Parse(once.Value)
		if err != nil || !twice.Value.Equal(once.Value) || !strings.Contains(text, once.Value.Reveal()) {
			t.Errorf("parsed twice: %v, %v", twice, err)
		}
	})
}

func TestAKeyIsShownAsTheConsoleListsItAndNoMoreOfIt(t *testing.T) {
	_, sim, p := start(t, simcloud.OpenAIOptions{})
	_, made := sim.CreateKey(alpha, "k")
	plain := made.Reveal()
	for sentence, c := range map[string]struct{ value, want string }{
		"a key of today":         {plain, "sk-..." + plain[len(plain)-4:]},
		"pasted with quotes":     {`"` + plain + "\"\n", "sk-..." + plain[len(plain)-4:]},
		"too short to show from": {"sk-0123456789abcdefghij", ""},
	} {
		parsed, err := p.Parse(secret.FromString(c.value))
		if err != nil || parsed.Shown != c.want {
			t.Errorf("%s: shown as %q, %v", sentence, parsed.Shown, err)
		}
		if rotation.LooksLikeKey(parsed.Shown) {
			t.Errorf("%s: %q in a message would be taken for a key", sentence, parsed.Shown)
		}
	}
	if listed := sim.Keys(alpha)[0].Redacted; listed[len(listed)-4:] != plain[len(plain)-4:] {
		t.Errorf("the simulated console lists the key as %s", listed)
	}
}
