package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
)

const (
	aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsVUcO/Adb2Yq1X4WfXSclmLcRj3XCXYHdQXQpRrCDs"
	bobKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKg9O5ueS7/TGWjDLp3QOcyzpRfzi2+d11YyT/TB5IYq"
)

const eyes = `install: abc123
operators:
  - name: alice@example.com
    ssh_key: "` + aliceKey + ` alice@laptop"
  - {name: bob, ssh_key: "` + bobKey + `"}
providers: {openai: {type: openai}}
stores: {local: {type: local, dir: s, identity: i}}
tiers:
  production: {four_eyes: true}
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores: [{store: local, path: openai-prod}]
  - name: openai-plain
    provider: openai
    account: proj_2
    stores: [{store: local, path: openai-plain}]
    policy: {four_eyes: false}
`

func TestAFileNamesOperatorsAndTheKeysThatTwoOfThemApprove(t *testing.T) {
	c, err := config.Parse(filepath.Join(t.TempDir(), "rekey.yaml"), []byte(eyes))
	if err != nil {
		t.Fatal(err)
	}
	want := []rotation.Operator{{Name: "alice@example.com", Key: aliceKey}, {Name: "bob", Key: bobKey}}
	if diff := cmp.Diff(want, c.Operators); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Four eyes without being asked would be none: it implies approve.
	if p := c.Keys[0].Policy; !p.FourEyes || !p.Approve {
		t.Errorf("the tier's key: %+v", p)
	}
	if p := c.Keys[1].Policy; p.FourEyes || p.Approve {
		t.Errorf("a key that says false: %+v", p)
	}
	if o, ok := c.Operator(bobKey); !ok || o.Name != "bob" {
		t.Errorf("bob's key is %v's", o)
	}
}

func TestBadOperatorsAreRefusedWithThePlaceAndWhatWasExpected(t *testing.T) {
	for sentence, c := range map[string]struct{ replace, with, want string }{
		"no name":                      {"name: bob, ", "", "rekey.yaml:5:5: operators[1].name: missing"},
		"a name of two words":          {"name: bob", "name: bob b", `rekey.yaml:5:12: operators[1].name: "bob b" cannot name an operator`},
		"a key for a name":             {"name: bob", "name: " + strings.Repeat("a1", 25), "rekey.yaml:5:12: this looks like a key"},
		"two of a name":                {"name: bob", "name: alice@example.com", `rekey.yaml:5:12: operators[1].name: another operator is called "alice@example.com" already`},
		"two of a key":                 {bobKey, aliceKey + " other comment", "rekey.yaml:5:26: operators[1].ssh_key: alice@example.com has this key already"},
		"no key":                       {`, ssh_key: "` + bobKey + `"`, "", "operators[1].ssh_key: missing"},
		"a key that is none":           {bobKey, "ssh-ed25519 AAAA", "rekey.yaml:5:26: operators[1].ssh_key: it holds no public SSH key"},
		"a field that there is not":    {"name: bob", "email: bob", `there is no field "email" here`},
		"four eyes with one operator":  {`  - {name: bob, ssh_key: "` + bobKey + `"}` + "\n", "", "rekey.yaml:8:27: tiers.production.four_eyes: needs at least 2 operators who can sign, and the file names 1"},
		"four eyes that is neither":    {"four_eyes: true", "four_eyes: maybe", "rekey.yaml:9:"},
		"four eyes without a list":     {eyes[strings.Index(eyes, "operators:"):strings.Index(eyes, "providers:")], "", "the file names 0; list them under operators"},
		"a private key in place of it": {bobKey, "-----BEGIN OPENSSH PRIVATE KEY-----", "rekey.yaml:5:27: this looks like a key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(eyes, c.replace, c.with, 1)
			if text == eyes {
				t.Fatalf("the test replaces %q, which the file does not have", c.replace)
			}
			if _, err := config.Parse("rekey.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
}
