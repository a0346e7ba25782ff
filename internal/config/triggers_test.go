package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/config"
)

const triggers = good + `triggers:
  listen: 0.0.0.0:8787
  host: Rekey.example.com
  rate: 30/m
  sources:
    scanner:
      type: hmac
      secret_file: scanner.secret
      keys: ["openai-*"]
    github:
      type: github-secret-scanning
      secret_file: /etc/rekey/github.secret
      secret_types: {openai_api_key: ["openai-*"]}
    google:
      type: google-secret-rotate
      audience: https://rekey.example.com/triggers/google
      service_account: push@acme-prod.iam.gserviceaccount.com
      store: gsm
      project_number: "123456789"
`

func TestAGoodFileTellsWhoMayTrigger(t *testing.T) {
	c, err := config.Parse("/etc/rekey/rekey.yaml", []byte(triggers))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Triggers{Listen: "0.0.0.0:8787", Host: "rekey.example.com", Rate: 0.5, Sources: []config.TriggerSource{
		{Name: "github", Type: config.GitHubSecretScanning, SecretFile: "/etc/rekey/github.secret", SecretTypes: map[string][]string{"openai_api_key": {"openai-*"}}},
		{
			Name: "google", Type: config.GoogleSecretRotate, Audience: "https://rekey.example.com/triggers/google", ServiceAccount: "push@acme-prod.iam.gserviceaccount.com",
			Store: "gsm", Project: "acme-prod", ProjectNumber: "123456789",
		},
		{Name: "scanner", Type: config.HMAC, SecretFile: "/etc/rekey/scanner.secret", Keys: []string{"openai-*"}},
	}}
	if diff := cmp.Diff(want, c.Triggers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c, err := config.Parse("rekey.yaml", []byte(good)); err != nil || c.Triggers != nil {
		t.Errorf("a file without triggers gives %v, %v", c.Triggers, err)
	}
	if c, err := config.Parse("rekey.yaml", []byte(strings.Replace(triggers, "  listen: 0.0.0.0:8787\n", "", 1))); err != nil || c.Triggers.Listen != "127.0.0.1:8787" {
		t.Errorf("the address is not on loopback by itself: %v", err)
	}
}

func TestBadTriggersAreRefusedWithThePlaceAndWhatWasExpected(t *testing.T) {
	for sentence, tc := range map[string]struct{ replace, with, want string }{
		"an unknown field":             {"keys: [", "key: [", `there is no field "key" here`},
		"a secret in the file itself":  {"secret_file: scanner.secret", "secret: hunter2", `there is no field "secret" here`},
		"an address":                   {"0.0.0.0:8787", "8787", `rekey.yaml:38:11: triggers.listen: "8787" is not a valid address; expected host:port like 127.0.0.1:8787`},
		"every address, by accident":   {"0.0.0.0:8787", `":8787"`, `":8787" is not a valid address`},
		"a port":                       {"0.0.0.0:8787", "0.0.0.0:99999", "is not a valid address"},
		"a host":                       {"host: Rekey.example.com", "host: https://rekey.example.com", "is not a valid host name"},
		"a rate":                       {"30/m", "fast", `triggers.rate: "fast" is not a valid rate; expected 1 to 10000 deliveries a second`},
		"a source's name":              {"    scanner:", "    my/scanner:", `"my/scanner" cannot name a source`},
		"a source's type":              {"type: hmac", "type: hmca", `triggers.sources.scanner.type: "hmca" is not known; expected hmac, github-secret-scanning or google-secret-rotate`},
		"no secret":                    {"      secret_file: scanner.secret\n", "", "triggers.sources.scanner.secret_file: missing; expected a path"},
		"a secret of two":              {"scanner.secret", "/etc/rekey/github.secret", "the source github has this file already"},
		"a pattern that means no key":  {`keys: ["openai-*"]`, `keys: ["opnai-*"]`, `triggers.sources.scanner.keys[0]: "opnai-*" means no key of this file`},
		"a broken pattern":             {`keys: ["openai-*"]`, `keys: ["openai-["]`, "is not a valid pattern"},
		"a type that means no key":     {`openai_api_key: ["openai-*"]`, `openai_api_key: ["anthropic-*"]`, `"anthropic-*" means no key of this file`},
		"a type without keys":          {`openai_api_key: ["openai-*"]`, `openai_api_key: []`, "secret_types.openai_api_key: missing"},
		"types for another type":       {`keys: ["openai-*"]`, `secret_types: {a: ["openai-*"]}`, "is for type github-secret-scanning only"},
		"an audience for another type": {`keys: ["openai-*"]`, `audience: us`, "is for type google-secret-rotate only"},
		"a secret for Pub/Sub":         {"      store: gsm\n", "      store: gsm\n      secret_file: x\n", "triggers.sources.google.secret_file: is for type hmac or github-secret-scanning only"},
		"no audience":                  {"      audience: https://rekey.example.com/triggers/google\n", "", "triggers.sources.google.audience: missing"},
		"no service account":           {"push@acme-prod.iam.gserviceaccount.com", "push", `"push" is not a valid service account`},
		"a project's id":               {`"123456789"`, "acme-prod", `"acme-prod" is not a valid project number`},
		"a store of another type":      {"store: gsm\n      project", "store: vault.local\n      project", `there is no store of type google-secret-manager "vault.local"; expected gsm`},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(triggers, tc.replace, tc.with, 1)
			if text == triggers {
				t.Fatal("the test changes nothing")
			}
			_, err := config.Parse("rekey.yaml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "rekey.yaml:") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := config.Parse("rekey.yaml", []byte(good+"triggers: {}\n")); err == nil || !strings.Contains(err.Error(), "triggers.sources: missing") {
		t.Errorf("triggers without sources: %v", err)
	}
}
