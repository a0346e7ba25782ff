package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

const good = `install: abc123
providers:
  google:
    type: google-service-account
    accounts: ["*@acme.iam.gserviceaccount.com"]
  openai:
    type: openai
stores:
  gsm:
    type: google-secret-manager
    project: acme-prod
    paths: ["team-*", "openai-*"]
  vault.local:
    type: local
    dir: secrets
    identity: /etc/rekey/identity.txt
tiers:
  staging:
    grace: 3d
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores:
      - {store: gsm, path: openai-prod}
      - {store: vault.local, path: openai-prod}
    policy:
      period: 45d
      approve: true
  - name: ci
    provider: google
    account: ci@acme.iam.gserviceaccount.com
    tier: staging
    stores:
      - store: gsm
        path: ci
`

func TestAGoodFileGivesEveryKeyItsPolicy(t *testing.T) {
	c, err := config.Parse("/etc/rekey/rekey.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	prod := rotation.Preset(rotation.Production)
	prod.Period, prod.Approve = rotation.Duration(45*24*time.Hour), true
	staging := rotation.Preset(rotation.Staging)
	staging.Grace, staging.MaxGrace = rotation.Duration(3*24*time.Hour), rotation.Duration(10*24*time.Hour)
	want := []rotation.Key{
		{
			Name: "openai-prod", Provider: "openai", Account: "proj_1", Tier: rotation.Production, Policy: prod,
			Stores: []rotation.Location{{Store: "gsm", Path: "openai-prod"}, {Store: "vault.local", Path: "openai-prod"}},
		},
		{
			Name: "ci", Provider: "google", Account: "ci@acme.iam.gserviceaccount.com", Tier: rotation.Staging, Policy: staging,
			Stores: []rotation.Location{{Store: "gsm", Path: "ci"}},
		},
	}
	if diff := cmp.Diff(want, c.Keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := c.Stores["vault.local"].Dir; got != "/etc/rekey/secrets" {
		t.Errorf("dir is %q: a relative path starts at the file's folder", got)
	}
}

func TestABadFileIsRefusedWithThePlaceAndWhatWasExpected(t *testing.T) {
	cases := map[string]struct {
		replace, with string
		want          []string
	}{
		"an unknown field":            {"    account: proj_1", "    acount: proj_1", []string{"rekey.yaml:23:5: there is no field \"acount\" here"}},
		"an unknown field at the top": {"install: abc123", "instal: abc123", []string{"rekey.yaml:1:1: there is no field \"instal\" here"}},
		"a bad duration":              {"period: 45d", "period: 45 days", []string{`rekey.yaml:28:15: keys[0].policy.period: "45 days" is no duration; expected one like 30d`}},
		"a negative duration":         {"period: 45d", "period: -45d", []string{`"-45d" is no duration`}},
		"a duration in a tier":        {"grace: 3d", "grace: soon", []string{`rekey.yaml:19:12: tiers.staging.grace: "soon" is no duration`}},
		"a duplicate name":            {"name: ci", "name: openai-prod", []string{`rekey.yaml:30:11: keys[1].name: another key is called "openai-prod" already`}},
		"a missing provider":          {"    provider: openai\n", "", []string{"keys[0].provider: missing; expected the name of a provider"}},
		"a provider nobody defined":   {"    provider: openai\n", "    provider: opnai\n", []string{`rekey.yaml:22:15: keys[0].provider: there is no provider "opnai"; expected google or openai`}},
		"a store nobody defined":      {"store: gsm, path", "store: gcm, path", []string{`there is no store "gcm"; expected gsm or vault.local`}},
		"a tier nobody knows":         {"tier: staging", "tier: prod", []string{`keys[1].tier: "prod" is not known; expected production-1, production, staging or development`}},
		"a provider type":             {"type: openai", "type: open-ai", []string{`providers.openai.type: "open-ai" is not known; expected openai or google-service-account`}},
		"a field of another type":     {"type: openai\n", "type: openai\n    mode: upload\n", []string{"providers.openai.mode: is for type google-service-account only; this one is openai"}},
		"a project is missing":        {"    project: acme-prod\n", "", []string{"stores.gsm.project: missing"}},
		"a key name":                  {"name: ci", "name: CI_key", []string{`keys[1].name: "CI_key" cannot name a key; expected 1 to 39 characters`}},
		"an install id":               {"abc123", "abc", []string{`rekey.yaml:1:10: install: "abc" is no install id; expected six characters`}},
		"a path that two keys share":  {"        path: ci\n", "        path: openai-prod\n", []string{"gsm:openai-prod holds key openai-prod already"}},
		"an unencrypted endpoint":     {"type: openai\n", "type: openai\n    endpoint: http://proxy.example/v1\n", []string{"would send keys unencrypted"}},
		"grace longer than its cap":   {"period: 45d", "period: 45d\n      grace: 20d\n      max_grace: 10d", []string{"10d is shorter than the grace period of 20d"}},
		"no room in the period":       {"period: 45d", "period: 1d", []string{"does not leave room for a grace period of 2d"}},
		"two mistakes at once":        {"abc123", "x", []string{"install", "install"}},
		"no YAML at all":              {"install: abc123", "install: [", []string{"rekey.yaml:"}},
		"a field twice":               {"install: abc123", "install: abc123\ninstall: abc124", []string{"rekey.yaml:2:1:", "already defined"}},
		"a list where a map belongs":  {"  openai:\n    type: openai\n", "  openai: [a]\n", []string{"rekey.yaml:6:"}},
		"a pattern":                   {`"*@acme.iam`, `"[@acme.iam`, []string{"is no pattern"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tc.replace) {
				t.Fatalf("the test replaces %q, which the file does not have", tc.replace)
			}
			c, err := config.Parse("rekey.yaml", []byte(strings.Replace(good, tc.replace, tc.with, 1)))
			var problems config.Problems
			if c != nil || !errors.As(err, &problems) {
				t.Fatalf("got %v, %v; want problems only", c, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant %q in it", err, want)
				}
			}
		})
	}
}

func TestAFileThatDoesNotExistSaysWhatToDo(t *testing.T) {
	_, err := config.Load(t.TempDir() + "/rekey.yaml")
	if err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v", err)
	}
}

func TestAWorkerTouchesOnlyWhatItsOwnFileNames(t *testing.T) {
	c, err := config.Parse("rekey.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	ci, _ := c.Key("ci")
	cases := map[string]struct {
		change func(*rotation.Key)
		denied bool
	}{
		"a key of the file is allowed":                     {func(*rotation.Key) {}, false},
		"its policy may differ":                            {func(k *rotation.Key) { k.Policy.Grace = 0 }, false},
		"a key of the file with another account is denied": {func(k *rotation.Key) { k.Account = "other@acme.iam.gserviceaccount.com" }, true},
		"a key of the file with the path of another key is denied": {func(k *rotation.Key) {
			k.Stores = []rotation.Location{{Store: "gsm", Path: "openai-prod"}}
		}, true},
		"another key needs account and paths of the lists": {func(k *rotation.Key) {
			k.Name, k.Account, k.Stores = "other", "other@acme.iam.gserviceaccount.com", []rotation.Location{{Store: "gsm", Path: "team-a"}}
		}, false},
		"another key cannot take a path of a key of the file": {func(k *rotation.Key) {
			k.Name, k.Stores = "other", []rotation.Location{{Store: "gsm", Path: "openai-prod"}}
		}, true},
		"another project's account is denied": {func(k *rotation.Key) {
			k.Name, k.Account, k.Stores = "other", "ci@evil.iam.gserviceaccount.com", []rotation.Location{{Store: "gsm", Path: "team-a"}}
		}, true},
		"a path that no list has is denied": {func(k *rotation.Key) {
			k.Name, k.Stores = "other", []rotation.Location{{Store: "gsm", Path: "root-password"}}
		}, true},
		"the same path in another store is denied":  {func(k *rotation.Key) { k.Stores = []rotation.Location{{Store: "vault.local", Path: "ci"}} }, true},
		"a name that would break a stamp is denied": {func(k *rotation.Key) { k.Name = "a b" }, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			k := ci
			tc.change(&k)
			if err := c.Allow(k); (err != nil) != tc.denied || tc.denied && !fault.Is(err, fault.AccessDenied) {
				t.Errorf("got %v, denied is %v", err, tc.denied)
			}
		})
	}
}

func FuzzParseNeverPanicsAndNeverGivesHalfAConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("keys:\n  - name: a\n"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse("rekey.yaml", text)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		var problems config.Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("the error is a %T", err)
		}
	})
}
