package config_test

import (
	"errors"
	"fmt"
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
		"a bad duration":              {"period: 45d", "period: 45 days", []string{`rekey.yaml:28:15: keys[0].policy.period: "45 days" is not a valid duration; expected one like 30d`}},
		"a negative duration":         {"period: 45d", "period: -45d", []string{`"-45d" is not a valid duration`}},
		"a duration in a tier":        {"grace: 3d", "grace: soon", []string{`rekey.yaml:19:12: tiers.staging.grace: "soon" is not a valid duration`}},
		"a duplicate name":            {"name: ci", "name: openai-prod", []string{`rekey.yaml:30:11: keys[1].name: another key is called "openai-prod" already`}},
		"a missing provider":          {"    provider: openai\n", "", []string{"keys[0].provider: missing; expected the name of a provider"}},
		"a provider nobody defined":   {"    provider: openai\n", "    provider: opnai\n", []string{`rekey.yaml:22:15: keys[0].provider: there is no provider "opnai"; expected google or openai`}},
		"a store nobody defined":      {"store: gsm, path", "store: gcm, path", []string{`there is no store "gcm"; expected gsm or vault.local`}},
		"a tier nobody knows":         {"tier: staging", "tier: prod", []string{`keys[1].tier: "prod" is not known; expected production-1, production, staging or development`}},
		"a provider type":             {"type: openai", "type: open-ai", []string{`providers.openai.type: "open-ai" is not known; expected openai or google-service-account`}},
		"a field of another type":     {"type: openai\n", "type: openai\n    mode: upload\n", []string{"providers.openai.mode: is for type google-service-account only; this one is openai"}},
		"a project is missing":        {"    project: acme-prod\n", "", []string{"stores.gsm.project: missing"}},
		"a key name":                  {"name: ci", "name: CI_key", []string{`keys[1].name: "CI_key" cannot name a key; expected 1 to 39 characters`}},
		"an install id":               {"abc123", "abc", []string{`rekey.yaml:1:10: install: "abc" is not a valid install id; expected six characters`}},
		"a path that two keys share":  {"        path: ci\n", "        path: openai-prod\n", []string{"gsm:openai-prod holds key openai-prod already"}},
		"an unencrypted endpoint":     {"type: openai\n", "type: openai\n    endpoint: http://proxy.example/v1\n", []string{"would send keys unencrypted"}},
		"grace longer than its cap":   {"period: 45d", "period: 45d\n      grace: 20d\n      max_grace: 10d", []string{"10d is shorter than the grace period of 20d"}},
		"no room in the period":       {"period: 45d", "period: 1d", []string{"does not leave room for a grace period of 2d"}},
		"two mistakes at once":        {"abc123", "x", []string{"install", "install"}},
		"a window's day":              {"period: 45d", "window: {days: [mon, Tuesday]}", []string{`rekey.yaml:28:28: keys[0].policy.window.days[1]: "Tuesday" is not known; expected mon, tue, wed, thu, fri, sat or sun`}},
		"a window's day twice":        {"period: 45d", "window: {days: [mon, mon]}", []string{`keys[0].policy.window.days[1]: "mon" is listed twice`}},
		"a window's hour":             {"period: 45d", "window: {from: 22:00, to: 26:00}", []string{`keys[0].policy.window.to: "26:00" is not a valid time of day; expected one like 22:30`}},
		"half a window":               {"period: 45d", "window: {from: 22:00}", []string{"keys[0].policy.window.to: missing; a window has from and to"}},
		"a window that never opens":   {"period: 45d", "window: {from: 09:00, to: 09:00}", []string{"keys[0].policy.window.to: a window from 09:00 to 09:00 is never open"}},
		"a window's end as its start": {"period: 45d", "window: {from: 24:00, to: 09:00}", []string{"keys[0].policy.window.from: a window cannot open at the end of a day; write 00:00"}},
		"a time zone":                 {"period: 45d", "window: {zone: CET+1}", []string{`keys[0].policy.window.zone: "CET+1" is not a valid time zone; expected one like Europe/Berlin or UTC`}},
		"the zone of whoever reads":   {"period: 45d", "window: {zone: Local}", []string{`"Local" is not a valid time zone`}},
		"a field of a window":         {"period: 45d", "window: {until: 09:00}", []string{`there is no field "until" here`}},
		"a blackout date":             {"period: 45d", "blackout: [2026-12-24, 24.12.2026]", []string{`keys[0].policy.blackout[1]: "24.12.2026" is not a valid date; expected one like 2026-12-24`}},
		"a blackout that ends early":  {"period: 45d", "blackout: [2026-12-24 to 2026-12-01]", []string{`"2026-12-24 to 2026-12-01" ends before it begins`}},
		"a blackout without end":      {"period: 45d", "blackout: [2026-01-01 to 2099-12-31]", []string{"is longer than a year; pause the keys instead"}},
		"a blackout in a tier":        {"grace: 3d", "blackout: [soon]", []string{`rekey.yaml:19:16: tiers.staging.blackout[0]: "soon" is not a valid date`}},
		"apart from itself":           {"    tier: staging", "    tier: staging\n    conflicts_with: [ci]", []string{"rekey.yaml:34:22: keys[1].conflicts_with[0]: a key cannot conflict with itself"}},
		"apart from nobody":           {"    tier: staging", "    tier: staging\n    conflicts_with: [openai]", []string{`rekey.yaml:34:22: keys[1].conflicts_with[0]: there is no key "openai"; expected openai-prod or ci`}},
		"apart from one twice":        {"    tier: staging", "    tier: staging\n    conflicts_with: [openai-prod, openai-prod]", []string{`"openai-prod" is listed twice`}},
		"paused by another word":      {"    tier: staging", "    tier: staging\n    paused: later", []string{"rekey.yaml:34:"}},
		"no YAML at all":              {"install: abc123", "install: [", []string{"rekey.yaml:"}},
		"a field twice":               {"install: abc123", "install: abc123\ninstall: abc124", []string{"rekey.yaml:2:1:", "already defined"}},
		"a list where a map belongs":  {"  openai:\n    type: openai\n", "  openai: [a]\n", []string{"rekey.yaml:6:"}},
		"a rate without a unit":       {"    type: openai\n", "    type: openai\n    rate: 50\n", []string{`rekey.yaml:8:11: providers.openai.rate: "50" is not a valid rate; expected 1 to 10000 steps a second, minute or hour, like 50/s or 30/m`}},
		"a rate of nothing":           {"    type: openai\n", "    type: openai\n    rate: 0/s\n", []string{"is not a valid rate"}},
		"a rate in another unit":      {"    type: openai\n", "    type: openai\n    rate: 50/day\n", []string{"is not a valid rate"}},
		"a rate that is a slip":       {"    type: openai\n", "    type: openai\n    rate: 100000/s\n", []string{"is not a valid rate"}},
		"a concurrency of nothing":    {"    type: openai\n", "    type: openai\n    concurrency: 0\n", []string{"rekey.yaml:8:18: providers.openai.concurrency: \"0\" is not a valid number of steps at once; expected 1 to 10000"}},
		"a concurrency in words":      {"    type: openai\n", "    type: openai\n    concurrency: many\n", []string{"is not a valid number of steps"}},
		"a pattern":                   {`"*@acme.iam`, `"[@acme.iam`, []string{"is not a valid pattern"}},
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

func TestAKeyHasTheWindowOfItsTierOrItsOwnAndKeepsApartBothWays(t *testing.T) {
	text := strings.Replace(good, "    grace: 3d", "    grace: 3d\n    window: {days: [sat, sun], zone: Europe/Berlin}\n    blackout: [2026-12-24]", 1)
	text = strings.Replace(text, "    tier: staging", "    tier: staging\n    paused: true\n    conflicts_with: [openai-prod]", 1)
	text = strings.Replace(text, "      period: 45d", "      window: {from: 22:00, to: 04:00}\n      blackout: [2026-12-30 to 2027-01-02]", 1)
	c, err := config.Parse("rekey.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, k := range c.Keys {
		got[k.Name] = fmt.Sprintf("%s %v, apart from %v, paused %v", k.Policy.Window, k.Policy.Window.Blackout, k.ConflictsWith, c.Paused[k.Name])
	}
	want := map[string]string{
		"openai-prod": "any day 22:00 to 04:00, but for 1 blackout(s) [2026-12-30 to 2027-01-02], apart from [ci], paused false",
		"ci":          "sat sun Europe/Berlin, but for 1 blackout(s) [2026-12-24], apart from [openai-prod], paused true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAProviderSaysHowFastItsStepsMayGo(t *testing.T) {
	for sentence, tc := range map[string]struct {
		lines string
		want  config.Limit
	}{
		"nothing said":       {"", config.Limit{}},
		"both":               {"    rate: 50/s\n    concurrency: 20\n", config.Limit{Rate: 50, Concurrency: 20}},
		"less than a second": {"    rate: 30/m\n", config.Limit{Rate: 0.5}},
		"by the hour":        {"    rate: \"36/h\"\n", config.Limit{Rate: 0.01}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, err := config.Parse("rekey.yaml", []byte(strings.Replace(good, "    type: openai\n", "    type: openai\n"+tc.lines, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Providers["openai"].Limit; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
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
	f.Add([]byte("keys:\n  !x "))
	f.Add([]byte("a: b\n---\nc: d\n"))
	f.Add([]byte("\xff\xfea\x00"))
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
