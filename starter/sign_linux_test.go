package main

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/rotation/signed"
)

func TestThePassphraseOfAKeyFileIsAskedForWithoutShowingIt(t *testing.T) {
	alice := newPerson(t, "alice")
	for typed, want := range map[string]string{passphrase: "", "wrong horse": "that is not the passphrase of " + alice.locked} {
		keyboard, screen := newTerminal(t)
		var prompt strings.Builder
		a := &app{in: screen, errOut: &prompt}
		failed := make(chan error, 1)
		go func() {
			keys, _, err := a.fromFile(t.Context(), alice.locked)
			if err == nil && signed.Line(keys[0].PublicKey()) != alice.line {
				t.Error("that is another key")
			}
			failed <- err
		}()
		for end := time.Now().Add(20 * time.Second); shows(t, screen); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the prompt never hides what is typed")
			}
		}
		if _, err := keyboard.WriteString(typed + "\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", typed, err)
		}
		if !strings.HasPrefix(prompt.String(), "Passphrase of "+alice.locked) || strings.Contains(prompt.String()+screenful(t, keyboard), typed) {
			t.Errorf("shown: %q", prompt.String())
		}
	}
}
