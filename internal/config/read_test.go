package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/rekeyhq/rekey/internal/config"
)

// refusedFile returns the problems of a text that is not taken.
func refusedFile(t *testing.T, text string) string {
	t.Helper()
	c, err := config.Parse("rekey.yaml", []byte(text))
	var problems config.Problems
	if c != nil || !errors.As(err, &problems) {
		t.Fatalf("got %v, %v; want problems only", c, err)
	}
	return err.Error()
}

func TestATextThatTheReaderWouldTakeWronglyIsRefusedWithItsPlace(t *testing.T) {
	inUTF16 := "\xff\xfe"
	for _, u := range utf16.Encode([]rune(good)) {
		inUTF16 += string([]byte{byte(u), byte(u >> 8)})
	}
	for sentence, tc := range map[string]struct{ text, want string }{
		"a tag":                               {"install: abc123\nkeys:\n  !x ", "rekey.yaml:3:3: a YAML tag"},
		"a tag of YAML's own":                 {strings.Replace(good, "abc123", "!!str abc123", 1), "rekey.yaml:1:10: a YAML tag"},
		"a second document":                   {good + "---\nkeys: []\n", "rekey.yaml:37:1: a second document begins here"},
		"a second document without anything":  {good + "---\n", "rekey.yaml:37:1: a second document begins here"},
		"a first document without anything":   {"---\n---\n" + good, "rekey.yaml:2:1: a second document begins here"},
		"what follows the end":                {good + "...\nkeys: []\n", "rekey.yaml:38:1: something follows the end of the document"},
		"a byte that is not UTF-8":            {strings.Replace(good, "acme-prod", "acme\xe9", 1), "rekey.yaml:11:18: the byte 0xe9 is not UTF-8"},
		"UTF-16":                              {inUTF16, "rekey.yaml:1:1: the file is UTF-16"},
		"UTF-16 without a mark":               {inUTF16[2:], "rekey.yaml:1:2: a NUL"},
		"a NUL":                               {strings.Replace(good, "acme-prod", "acme\x00prod", 1), "rekey.yaml:11:18: a NUL"},
		"a control character":                 {strings.Replace(good, "acme-prod", "acme\x1bprod", 1), "rekey.yaml:11:18: the control character U+001B"},
		"text that turns around":              {strings.Replace(good, "acme-prod", "acme\u202eprod", 1), "rekey.yaml:11:18: the character U+202E"},
		"a mark of UTF-8 in the middle":       {strings.Replace(good, "acme-prod", "acme\ufeffprod", 1), "rekey.yaml:11:18: the character U+FEFF"},
		"more than anybody has keys":          {strings.Repeat("# nothing\n", 1<<20), "the file is larger than 8 MiB"},
		"an alias of nothing in a merge":      {"<<: *x\n", "rekey.yaml"},
		"keys as a map":                       {"keys:\n  openai: {provider: openai}\n", `rekey.yaml:2:9: keys: expected a list; begin each of its entries with a hyphen, like "- name: …"`},
		"stores of a key as a map":            {"keys:\n- name: a\n  stores: {store: l, path: p}\n", `keys[0].stores: expected a list; begin each of its entries with a hyphen`},
		"stores of a key as a word":           {"keys:\n- name: a\n  stores: local\n", `rekey.yaml:3:11: keys[0].stores: expected a list`},
		"providers as a list":                 {"providers:\n  - openai\n", `rekey.yaml:2:3: providers: expected fields like "name: …", not a list`},
		"a policy that is a word":             {"keys: [{name: a, policy: 3d}]\n", `keys[0].policy: expected fields like "name: …", not one value`},
		"a value that is a list":              {"install: [a]\n", "rekey.yaml:1:10: install: expected one value, not a list or a map"},
		"a switch that is a word":             {"keys:\n- name: a\n  paused: later\n", "rekey.yaml:3:11: keys[0].paused: expected true or false"},
		"one space too few":                   {strings.Replace(good, "    account: proj_1", "   account: proj_1", 1), "rekey.yaml:23:4: this line begins in a column where nothing above it does"},
		"one space too many":                  {strings.Replace(good, "    account: proj_1", "     account: proj_1", 1), "a field cannot begin here. Either this line has more spaces before it than the fields beside it"},
		"a tab":                               {"keys:\n\t- name: a\n", "rekey.yaml:2:1: a tab; YAML is indented with spaces"},
		"a quotation mark that is not closed": {"install: \"abc123\n", "rekey.yaml:1:10: the quotation mark that opens here is never closed"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := refusedFile(t, tc.text); !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestWhatYAMLAllowsIsTaken(t *testing.T) {
	for sentence, text := range map[string]string{
		"a mark of UTF-8 at the beginning": "\ufeff" + good,
		"a mark of a beginning":            "# rekey\n---\n" + good,
		"a directive":                      "%YAML 1.2\n---\n" + good,
		"a mark of an end":                 good + "...\n# nothing\n",
		"line ends of another system":      strings.ReplaceAll(good, "\n", "\r\n"),
		"comments in any language":         "# schlüssel 🔑 ключ\n# " + strings.Repeat("=", 100) + "\n" + good,
		"an anchor":                        strings.Replace(strings.Replace(good, "project: acme-prod", "project: &p acme-prod", 1), "dir: secrets", "dir: *p", 1),
	} {
		t.Run(sentence, func(t *testing.T) {
			if c, err := config.Parse("rekey.yaml", []byte(text)); err != nil || len(c.Keys) != 2 {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

func TestAFileThatIsFarTooLargeIsNotReadWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rekey.yaml")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 60<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(name); err == nil || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("got %v", err)
	}
	if _, err := config.Load(filepath.Dir(name)); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a folder: %v", err)
	}
}

func TestAKeyInTheFileIsRefusedAndNotRepeated(t *testing.T) {
	const key = "sk-proj-0123456789abcdef_0123456789ABCDEF"
	for sentence, tc := range map[string]struct{ replace, with, want string }{
		"as an account":             {"proj_1", key, "rekey.yaml:23:14: this looks like a key"},
		"in quotes":                 {"proj_1", `"` + key + `"`, "rekey.yaml:23:15: this looks like a key"},
		"with an escape":            {"proj_1", `"\u0073` + key[1:] + `"`, "rekey.yaml:23:15: this looks like a key"},
		"with an escape of YAML":    {"proj_1", `"\x73` + key[1:] + `"`, "rekey.yaml:23:14: this looks like a key"},
		"over two lines":            {"proj_1", `"` + key[:12] + "\\\n      " + key[12:] + `"`, "rekey.yaml:23:14: this looks like a key"},
		"as the name of a field":    {"account: proj_1", key + ": proj_1", "rekey.yaml:23:5: this looks like a key"},
		"in a comment":              {"proj_1", "proj_1 # was " + key, "rekey.yaml:23:27: this looks like a key"},
		"as the id of the install":  {"abc123", key, "rekey.yaml:1:10: this looks like a key"},
		"in a URL":                  {"type: openai", "type: openai\n    endpoint: https://x.example/?key=" + key, "rekey.yaml:8:15: this looks like a key"},
		"in a list":                 {`["*@acme.iam.gserviceaccount.com"]`, "[" + key + "]", "rekey.yaml:5:16: this looks like a key"},
		"in what is not YAML":       {"proj_1", "]" + key, "this looks like a key"},
		"an AWS access key":         {"proj_1", "AKIA0123456789ABCDEF", "rekey.yaml:23:14: this looks like a key"},
		"a key file of Google":      {"proj_1", `{"type": "service_account", "private_key": "x"}`, "rekey.yaml:23:1: this looks like a key"},
		"an identity of age":        {"/etc/rekey/identity.txt", "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", "rekey.yaml:16:15: this looks like a key"},
		"a private key of SSH":      {"proj_1", "|\n      -----BEGIN OPENSSH PRIVATE KEY-----", "rekey.yaml:24:7: this looks like a key"},
		"the body of a private key": {"proj_1", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW", "rekey.yaml:23:14: this looks like a key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(good, tc.replace, tc.with, 1)
			got := refusedFile(t, text)
			if !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if strings.Contains(got, "0123456789") || strings.Contains(got, "QQQQ") || strings.Contains(got, "ZXkt") {
				t.Errorf("the message repeats it: %s", got)
			}
		})
	}
}

func TestWhatOnlyRemindsOfAKeyIsTaken(t *testing.T) {
	for sentence, tc := range map[string]struct{ replace, with string }{
		"a long path":                  {"path: ci", "path: disk-snapshot-uploader-production"},
		"a role":                       {"    type: local\n    dir: secrets\n    identity: /etc/rekey/identity.txt", "    type: aws-secrets-manager\n    region: eu-central-1\n    role: arn:aws:iam::123456789012:role/rekey-worker-of-production"},
		"a fingerprint in a comment":   {"proj_1", "proj_1 # 3fa1b2c3d4e5, id 5d41402abc4b2a76b9719d911017c592aaaabbbb"},
		"operators of all kinds":       {"keys:\n", "operators:\n  - {name: alice, ssh_key: \"" + aliceKey + " alice@laptop\"}\nkeys:\n"},
		"a fingerprint of an SSH key":  {"proj_1", "proj_1 # SHA256:uNiVztksCsDhcc0u9e8BrqXVODdAsOBaPjHBSJJPmrE"},
		"a long URL of a Temporal UI":  {"install: abc123", "install: abc123\nui_url: https://temporal.production.internal.example.com/ui"},
		"a long name of a project":     {"acme-prod", "acme-risk-assessment-service-prod"},
		"public keys in a comment":     {"install: abc123", "# ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=\n# sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo= bob\ninstall: abc123"},
		"the file of a webhook secret": {"install: abc123", "channels:\n  - {name: oncall, type: webhook, url: https://x.example/hook, secret_file: secrets/webhook-secret-of-the-oncall-channel-production}\ninstall: abc123"},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(good, tc.replace, tc.with, 1)
			if text == good {
				t.Fatal("nothing was replaced")
			}
			if _, err := config.Parse("rekey.yaml", []byte(text)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatOnlyTheWorkerRefusedIsRefusedWithItsLine(t *testing.T) {
	for sentence, tc := range map[string]struct{ replace, with, want string }{
		"an OpenAI account that is no project":  {"proj_1", "acme", `rekey.yaml:23:14: keys[0].account: "acme" is not a valid OpenAI project; expected its id, proj_…`},
		"a path out of the folder":              {"vault.local, path: openai-prod", "vault.local, path: ../../etc/passwd", `rekey.yaml:26:36: keys[0].stores[1].path: "../../etc/passwd" cannot name a file of the store`},
		"a path into another resource":          {"gsm, path: openai-prod", "gsm, path: a/../b", `rekey.yaml:25:28: keys[0].stores[0].path: "a/../b" is not a valid secret id`},
		"an identity in the folder":             {"/etc/rekey/identity.txt", "./secrets/identity.txt", "rekey.yaml:16:15: stores.vault.local.identity: lies in the folder that it decrypts"},
		"a step that ends before its requests":  {"period: 45d", "step_timeout: 10s", "rekey.yaml:28:21: keys[0].policy.step_timeout: 10s is not longer than a request to openai may take (request_timeout, 30s)"},
		"a request that goes on after its step": {"type: openai\n", "type: openai\n    request_timeout: 2m\n", "step_timeout: 2m is not longer than a request to openai may take (request_timeout, 2m)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := refusedFile(t, strings.Replace(good, tc.replace, tc.with, 1)); !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
