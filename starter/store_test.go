package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/secret"
)

// emptyStore is a simulated cloud with two Google keys, and a rekey.yaml whose local store has no value of theirs yet.
func emptyStore(t *testing.T) (s *scenario.Scenario, file string) {
	t.Helper()
	dir := t.TempDir()
	s, err := scenario.Start(scenario.Options{Dir: filepath.Join(dir, "full"), KeyBits: 1024})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	for _, name := range []string{"ci", "other"} {
		if _, err := s.Google(name, scenario.Local); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(dir, "rekey.yaml")
	text := strings.ReplaceAll(s.YAML(), filepath.Join(dir, "full"), filepath.Join(dir, "empty"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, file
}

// runStore runs `rekey store` and checks the exit code.
func runStore(t *testing.T, want int, file, stdin string, args ...string) (out, errOut string) {
	t.Helper()
	var o, e strings.Builder
	if code := run(t.Context(), append([]string{"--config", file, "store"}, args...), strings.NewReader(stdin), &o, &e); code != want {
		t.Fatalf("rekey store %s: exit code %d, want %d: %s", strings.Join(args, " "), code, want, e.String())
	}
	return o.String(), e.String()
}

func TestWhatIsPutIsReadByteByByte(t *testing.T) {
	s, file := emptyStore(t)
	said, _ := runStore(t, exitOK, file, "'"+s.First("ci").Reveal()+"'\n", "put", scenario.Local, "ci", "--create")
	got, errOut := runStore(t, exitOK, file, "", "get", scenario.Local, "ci")
	v := secret.FromString(got)
	named(t, said, v)
	listed, _ := runStore(t, exitOK, file, "", "list", scenario.Local, "ci")
	named(t, listed, v)
	searched(t, said+listed+errOut, v, s.First("ci"))
}

func TestAGoogleKeyFileIsRebuiltBeforeItIsPut(t *testing.T) {
	s, file := emptyStore(t)
	var fields map[string]string
	if err := json.Unmarshal([]byte(s.First("ci").Reveal()), &fields); err != nil {
		t.Fatal(err)
	}
	id, key := fields["private_key_id"], fields["private_key"]
	fields["token_uri"], fields["extra"] = "https://attacker.example/token", "attacker"
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	runStore(t, exitOK, file, string(text), "put", scenario.Local, "ci", "--create")
	got, _ := runStore(t, exitOK, file, "", "get", scenario.Local, "ci")
	clear(fields)
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["private_key_id"] != id || fields["private_key"] != key || fields["token_uri"] != s.IAM.TokenURL || strings.Contains(got, "attacker") {
		t.Errorf("the key is the same: %v; tokens come from %s", fields["private_key"] == key, fields["token_uri"])
	}
}

func TestAKeyOfAnotherAccountIsNotPut(t *testing.T) {
	s, file := emptyStore(t)
	_, errOut := runStore(t, exitBadInput, file, s.First("other").Reveal(), "put", scenario.Local, "ci", "--create")
	if !strings.Contains(errOut, "this key belongs to "+scenario.Account("other")) {
		t.Errorf("said: %s", errOut)
	}
	searched(t, errOut, s.First("other"))
	if out, _ := runStore(t, exitOK, file, "", "list", scenario.Local, "ci"); !strings.Contains(out, " 0 version") {
		t.Errorf("something was put: %s", out)
	}
}

func TestARefusalOfTheStoreIsNoBadInput(t *testing.T) {
	s, file := emptyStore(t)
	runStore(t, exitFailed, file, "", "get", scenario.Local, "ci") // there is no identity
	runStore(t, exitOK, file, s.First("ci").Reveal(), "put", scenario.Local, "ci", "--create")
	again := strings.Replace(s.First("ci").Reveal(), `"private_key_id": "`, `"private_key_id": "00`, 1)
	runStore(t, exitRefused, file, again, "put", scenario.Local, "ci", "--create")
}
