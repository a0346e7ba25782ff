package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// inStore puts a value into the store as a person does who has no `rekey supply`.
func (r *fixture) inStore(v secret.Value) (version string) {
	n, err := r.SM.AddVersion("gpt", v)
	if err != nil {
		r.Error(err)
	}
	return itoa(n)
}

// madeIn is a key that a person makes in the console of a project.
func (r *fixture) madeIn(project string) (id string, v secret.Value) {
	return r.OpenAI.CreateKey(project, "new")
}

func TestWhatAPersonSuppliesIsCheckedAndTheDetailsSayWhatIsWanted(t *testing.T) {
	t.Parallel()
	gpt := scenario.OpenAIProject("gpt")
	for what, c := range map[string]struct {
		// value is what is in the store.
		value func(*fixture) secret.Value
		// wants are said in awaiting-key; none means that the key is taken.
		wants []string
		// refused: the key looks right, and the provider refuses it to the end.
		refused bool
	}{
		"the old key": {value: func(r *fixture) secret.Value { return r.First("gpt") },
			wants: []string{"This is the old key. Create another one at https://platform.openai.com/"}},
		"the old key in quotes": {value: func(r *fixture) secret.Value { return secret.FromString(`"` + r.First("gpt").Reveal() + "\"\n") },
			wants: []string{"This is the old key. Create another one at"}},
		"a key of another project": {value: func(r *fixture) secret.Value { _, v := r.madeIn("proj_other"); return v },
			wants: []string{"this key is not of " + gpt}},
		"the shortened key of the console's list": {value: func(*fixture) secret.Value { return secret.FromString("sk-...AbCd") },
			wants: []string{"Copy it whole from the console, where it is shown once; the list shows it shortened"}},
		"a key of another vendor": {value: func(*fixture) secret.Value { return secret.FromString("sk-ant-api03-0123456789abcdefghijklmnop") },
			wants: []string{"This is a key of Anthropic, not of OpenAI"}},
		"a key that makes keys": {value: func(*fixture) secret.Value { return secret.FromString("sk-admin-0123456789abcdefghijklmnop") },
			wants: []string{"This is an admin key", "Make a key of the project instead"}},
		"an assignment": {value: func(r *fixture) secret.Value {
			_, v := r.madeIn(gpt)
			return secret.FromString("OPENAI_API_KEY=" + v.Reveal())
		}, wants: []string{"A key is one word that starts with sk-"}},
		"a key with quotes and a line break": {value: func(r *fixture) secret.Value {
			_, v := r.madeIn(gpt)
			return secret.FromString(" \"" + v.Reveal() + "\"\r\n")
		}},
		"a key that was revoked already": {value: func(r *fixture) secret.Value {
			id, v := r.madeIn(gpt)
			r.rules.MayDie = []string{id}
			_ = r.OpenAI.DeleteKey(id)
			return v
		}, refused: true},
		"a key that lost its end": {value: func(r *fixture) secret.Value {
			_, v := r.madeIn(gpt)
			return secret.FromString(v.Reveal()[:40])
		}, refused: true},
	} {
		t.Run(what, func(t *testing.T) {
			r := newFixture(t, manualKey())
			a := &golden{fixture: r, begin: r.now()}
			var v secret.Value
			r.after(time.Hour, func() {
				v = c.value(r)
				r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "operator", Version: r.inStore(v)})
			})
			if c.refused {
				r.after(time.Hour+20*time.Second, func() {
					s := r.status()
					a.check(what, s)
					if s.Phase != rotation.Verify || !strings.Contains(s.Details, "openai refuses the value "+v.Fingerprint()+" (invalid_api_key)") {
						t.Errorf("phase %s\n%s", s.Phase, s.Details)
					}
				})
				res := r.run()
				r.unchanged(res)
				a.check(what, r.status())
				if said := r.status().Details; !strings.Contains(said, "did not pass: openai refuses") || !strings.Contains(said, "Delete it at openai, if it is live: https://platform.openai.com/") {
					t.Errorf("the end does not say what was wrong, or what is left:\n%s", said)
				}
				return
			}
			r.after(2*time.Hour, func() {
				s := r.status()
				a.check(what, s)
				switch {
				case len(c.wants) == 0 && s.Phase != rotation.Grace:
					t.Errorf("the key was not taken: %s\n%s", s.Phase, s.Details)
				case len(c.wants) > 0 && (s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, "The supplied key cannot be used")):
					t.Errorf("phase %s\n%s", s.Phase, s.Details)
				}
				for _, want := range c.wants {
					if !strings.Contains(s.Details, want) {
						t.Errorf("the details do not say %q:\n%s", want, s.Details)
					}
				}
				if len(c.wants) > 0 {
					r.supply()
				}
			})
			r.after(5*day, func() {
				_ = r.OpenAI.DeleteKey(r.oldID)
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			res := r.run()
			r.replaced(res)
			for _, left := range res.FollowUps {
				if strings.Contains(left, r.oldID) || what == "the old key" || what == "the old key in quotes" {
					t.Errorf("a follow-up says to delete the old key before its time: %s", left)
				}
			}
		})
	}
}

func TestARevocationThatIsClaimedIsTriedAndTheDetailsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		revoke func(r *fixture, newID string)
		phase  rotation.Phase
		// wants are said by the details; %old and %new stand for how the console lists the keys.
		wants []string
		then  func(r *fixture, newID string)
		back  bool
	}{
		"nothing was revoked": {
			revoke: func(*fixture, string) {}, phase: rotation.AwaitingRevocation,
			wants: []string{"The provider still accepts", "(%old): it was not revoked", "Revoke the old key: `%old`", "Keep the new key, which applications read: `%new`"},
		},
		"another key was revoked": {
			revoke: func(r *fixture, _ string) {
				id, _ := r.madeIn(scenario.OpenAIProject("gpt"))
				r.rules.MayDie = append(r.rules.MayDie, id)
				_ = r.OpenAI.DeleteKey(id)
			}, phase: rotation.AwaitingRevocation,
			wants: []string{"(%old): it was not revoked", "Check whether another key was revoked instead"},
		},
		"the new key was revoked": {
			revoke: func(r *fixture, newID string) {
				r.rules.MayDie = []string{newID}
				_ = r.OpenAI.DeleteKey(newID)
			}, phase: rotation.AwaitingApproval,
			wants: []string{"Applications fail now: the provider refuses the key that they read", "(%new)", "still accepts", "(%old)", "name `reject`"},
			then: func(r *fixture, _ string) {
				r.signal(rotation.Reject, rotation.DecisionMessage{})
				r.after(4*day, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
			}, back: true,
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newFixture(t, manualKey())
			a := &golden{fixture: r, begin: r.now()}
			var newID, newShown string
			r.after(time.Hour, func() {
				newID = r.supply()
				for _, k := range r.OpenAI.Keys(scenario.OpenAIProject("gpt")) {
					if k.ID == newID {
						newShown = "sk-..." + k.Redacted[len(k.Redacted)-4:]
					}
				}
			})
			r.after(3*day, func() {
				c.revoke(r, newID)
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			r.after(4*day, func() {
				s := r.status()
				a.check(what, s)
				if s.Phase != c.phase {
					t.Errorf("phase %s\n%s", s.Phase, s.Details)
				}
				old := r.First("gpt").Reveal()
				for _, want := range c.wants {
					want = strings.NewReplacer("%old", "sk-..."+old[len(old)-4:], "%new", newShown).Replace(want)
					if !strings.Contains(s.Details, want) {
						t.Errorf("the details do not say %q:\n%s", want, s.Details)
					}
				}
				if c.then != nil {
					c.then(r, newID)
					return
				}
				_ = r.OpenAI.DeleteKey(r.oldID)
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			if res := r.run(); c.back {
				r.unchanged(res)
			} else {
				r.replaced(res)
			}
		})
	}
}
