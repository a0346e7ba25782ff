package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scene"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func TestRevokeRefusesWhatAnybodyReadsOrIsAboutTo(t *testing.T) {
	for sentence, c := range map[string]struct {
		prepare func(r *rig, n, old activities.Ref)
		which   func(n, old activities.Ref) activities.Ref
		advice  string
	}{
		"the current key": {
			which:  func(n, _ activities.Ref) activities.Ref { return n },
			advice: "as current",
		},
		"the current key, named by its fingerprint and another id": {
			which: func(n, _ activities.Ref) activities.Ref {
				n.KeyID = strings.Repeat("0", 40)
				return n
			},
			advice: "as current",
		},
		"a key that is pending in the second store": {
			prepare: func(r *rig, _, old activities.Ref) {
				r.write(1, func(s *store.Snapshot) {
					s.Pending = &store.Version{Number: "p1", KeyID: old.KeyID, Fingerprint: old.Fingerprint, Rotation: r2}
				})
			},
			advice: "as pending",
		},
		"the old key, when somebody moved the alias back by hand": {
			prepare: func(r *rig, _, _ activities.Ref) {
				if err := r.SM.SetAlias("ci", "current", 1); err != nil {
					r.Fatal(err)
				}
			},
			advice: "as current",
		},
		"the old key, when somebody added it again by hand": {
			prepare: func(r *rig, _, _ activities.Ref) {
				if _, err := r.SM.AddVersion("ci-latest", r.First("ci")); err != nil {
					r.Fatal(err)
				}
			},
			advice: "as current",
		},
		"the old key, while readers still see the old alias": {
			prepare: func(r *rig, _, _ activities.Ref) {
				// Back and forth, with a lag: the record is as it was, applications are not.
				if err := r.SM.SetAlias("ci", "current", 1); err != nil {
					r.Fatal(err)
				}
				r.Cloud.SetTiming(simcloud.Timing{AliasLag: time.Hour})
				if err := r.SM.SetAlias("ci", "current", 2); err != nil {
					r.Fatal(err)
				}
			},
			advice: "still read it",
		},
		"any key, while a store has a third value": {
			prepare: func(r *rig, _, _ activities.Ref) {
				_, third, err := r.IAM.CreateForeignKey(scene.Account("ci"))
				if err != nil {
					r.Fatal(err)
				}
				if _, err := r.SM.AddVersion("ci-latest", third); err != nil {
					r.Fatal(err)
				}
			},
			advice: "do not agree",
		},
		"a key that no rotation promised to revoke": {
			prepare: func(r *rig, _, _ activities.Ref) {
				for i := range r.key.Stores {
					r.write(i, func(s *store.Snapshot) { s.Duties = nil })
				}
			},
			advice: "promised",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias, scene.Latest))
			n, old := r.published(r1)
			if c.prepare != nil {
				c.prepare(r, n, old[0])
			}
			which := old[0]
			if c.which != nil {
				which = c.which(n, old[0])
			}
			for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
				f := r.fails(r.revoke(r1, mode, which), fault.Rejected, activities.StillStaged)
				if !strings.Contains(f.Advice, c.advice) {
					t.Errorf("%s: %q does not say %q", mode, f.Advice, c.advice)
				}
			}
			for _, e := range r.Cloud.Journal() {
				if e.Kind == simcloud.KeyDisabled || e.Kind == simcloud.KeyDeleted {
					t.Errorf("%s %s", e.Kind, e.KeyID)
				}
			}
		})
	}
}

func TestRevokeDisablesEnablesAndDeletesAndIsHarmlessTwice(t *testing.T) {
	r := newRig(t, google(scene.Alias, scene.Latest))
	n, old := r.published(r1)
	for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.EnableKey, activities.DisableKey, activities.DeleteKey} {
		for range 2 {
			if err := r.revoke(r1, mode, old...); err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
		}
	}
	r.keys(n.KeyID)
	out, err := r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old, New: &n})
	if r.note(out, err); err != nil || len(out.Accepted)+len(out.Unproven) > 0 || out.NewRefused {
		t.Errorf("Confirm: %+v, %v", out, err)
	}
}

func TestRevokeWithoutAnIDAsksForAPerson(t *testing.T) {
	r := newRig(t, google(scene.Alias))
	_, old := r.published(r1)
	old[0].KeyID = ""
	f := r.fails(r.revoke(r1, activities.DeleteKey, old...), fault.Rejected, "no_id")
	if !strings.Contains(f.Advice, "https://console.cloud.google.com/") {
		t.Errorf("the advice has no link: %q", f.Advice)
	}
}

func TestConfirmSaysWhatStillPasses(t *testing.T) {
	r := newRig(t, google(scene.Alias))
	n, old := r.published(r1)
	out, err := r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old, New: &n})
	if r.note(out, err); err != nil || !slices.Equal(out.Accepted, []string{r.oldID}) {
		t.Errorf("a key that was not revoked: %+v, %v", out, err)
	}
	// Without its value the list is the proof.
	old[0].Numbers = []string{""}
	out, err = r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old})
	if r.note(out, err); err != nil || !slices.Equal(out.Accepted, []string{r.oldID}) {
		t.Errorf("without its value: %+v, %v", out, err)
	}
}

func TestRetireGoesOnWhereverItWasCutOff(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"before the first record is written":  {Method: "UpdateSecret", Target: "secrets/ci"},
		"after it, without an answer":         {Method: "UpdateSecret", Target: "secrets/ci", Kind: simcloud.LoseReply},
		"before the first version is gone":    {Method: "DestroySecretVersion", Target: "secrets/ci"},
		"after it, without an answer too":     {Method: "DestroySecretVersion", Target: "secrets/ci", Kind: simcloud.LoseReply},
		"before the second record is written": {Method: "UpdateSecret", Target: "secrets/ci-latest"},
		"after the second, without an answer": {Method: "UpdateSecret", Target: "secrets/ci-latest", Kind: simcloud.LoseReply},
		"before the sweep":                    {Service: simcloud.GoogleIAMService, Method: "ListServiceAccountKeys"},
		"before the claim is given back":      {Method: "UpdateSecret", Target: "secrets/ci", Skip: 1, Except: "latest"},
		"after it was, without an answer":     {Method: "UpdateSecret", Target: "secrets/ci", Skip: 1, Except: "latest", Kind: simcloud.LoseReply},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias, scene.Latest))
			n, old := r.published(r1)
			if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
				t.Fatal(err)
			}
			if cut.Service == "" {
				cut.Service = simcloud.SecretManagerService
			}
			if cut.Kind == 0 {
				cut.Kind = simcloud.DropBefore
			}
			cut.Times = 1
			r.Cloud.Inject(cut)
			_, err := r.tryRetire(r1, old...)
			r.fails(err, fault.Unavailable, "")
			for range 2 {
				r.retire(r1, old...)
				r.keys(n.KeyID)
				for i := range r.key.Stores {
					s := r.record(i)
					if s.Claim != nil || s.Pending != nil || s.Previous != nil || len(s.Duties) > 0 || s.Current == nil || s.Current.KeyID != n.KeyID {
						t.Errorf("record %d: %+v", i, s.Record)
					}
					l := r.key.Stores[i]
					if _, err := r.acts.Stores[l.Store].Read(context.Background(), l.Path, old[0].Numbers[i]); !fault.Is(err, fault.NotFound) {
						t.Errorf("the old value can still be read in %s: %v", l, err)
					}
				}
			}
		})
	}
}

func TestDiscardUndoesWhateverCreateAndStoreDid(t *testing.T) {
	for sentence, begin := range map[string]func(*rig) *activities.Ref{
		"nothing": func(*rig) *activities.Ref { return nil },
		"a key in the first store": func(r *rig) *activities.Ref {
			n := r.create(r1)
			return &n
		},
		"a key in both stores": func(r *rig) *activities.Ref {
			n := r.store(r1, r.create(r1))
			return &n
		},
		"a key whose create was never answered": func(r *rig) *activities.Ref {
			r.store(r1, r.create(r1))
			return nil
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias, scene.Latest))
			n := begin(r)
			for range 2 {
				if out := r.discard(r1, n, n != nil); out.Published || len(out.Left) > 0 {
					t.Errorf("%+v", out)
				}
				r.keys(r.oldID)
				for i := range r.key.Stores {
					if s := r.record(i); s.Claim != nil || s.Pending != nil || s.Previous != nil {
						t.Errorf("record %d: %+v", i, s.Record)
					}
				}
			}
		})
	}
}

func TestADiscardWhoseAnswersWereLostIsRepeated(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"the delete at the provider": {Service: simcloud.GoogleIAMService, Method: "DeleteServiceAccountKey"},
		"the record":                 {Service: simcloud.SecretManagerService, Method: "UpdateSecret"},
		"the version":                {Service: simcloud.SecretManagerService, Method: "DestroySecretVersion"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias))
			n := r.create(r1)
			cut.Kind, cut.Times = simcloud.LoseReply, 1
			r.Cloud.Inject(cut)
			_, err := r.tryDiscard(r1, &n, true)
			r.fails(err, fault.Unavailable, "")
			if out := r.discard(r1, &n, true); out.Published {
				t.Errorf("%+v", out)
			}
			r.keys(r.oldID)
			if s := r.record(0); s.Pending != nil || s.Claim != nil {
				t.Errorf("the record: %+v", s.Record)
			}
			left, err := r.acts.Stores[scene.Alias].Versions(context.Background(), "ci")
			if err != nil || !slices.Equal(left, []string{"1"}) {
				t.Errorf("readable versions: %v, %v", left, err)
			}
		})
	}
}

func TestDiscardOfAPromotedValueChangesNothing(t *testing.T) {
	r := newRig(t, google(scene.Alias, scene.Latest))
	n := r.store(r1, r.create(r1))
	// It came as far as the first store.
	cut := simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Target: "secrets/ci-latest", Except: "pending", Times: 1, Kind: simcloud.Refuse, Code: 503}
	r.Cloud.Inject(cut)
	if _, err := r.tryPromote(r1, n); err == nil {
		t.Fatal("promote finished")
	}
	before := []string{r.record(0).Revision, r.record(1).Revision}
	for _, known := range []*activities.Ref{&n, nil} {
		if out, err := r.tryDiscard(r1, known, known != nil); err != nil || !out.Published {
			t.Errorf("%+v, %v", out, err)
		}
	}
	if after := []string{r.record(0).Revision, r.record(1).Revision}; !slices.Equal(before, after) {
		t.Error("Discard changed a record")
	}
	r.keys(r.oldID, n.KeyID)
}

// supplied makes a key by hand and stages it as `starter supply` does.
func (r *rig) supplied(id string) (keyID string, n activities.Ref) {
	r.Helper()
	keyID, value := r.OpenAI.CreateKey(scene.OpenAIProject("gpt"), "by hand")
	number, _, err := r.acts.StageSupplied(context.Background(), r.key, id, value)
	if err != nil {
		r.Fatal(err)
	}
	out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(id), Version: number})
	if r.note(out, err); err != nil || out.New == nil {
		r.Fatalf("Adopt: %+v, %v", out, err)
	}
	return keyID, *out.New
}

func TestDiscardOfASuppliedKeyLeavesItToThePersonAndSaysSo(t *testing.T) {
	for sentence, tell := range map[string]bool{"its adopt was answered": true, "its adopt was never answered": false} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, setup{openai: true, stores: []string{scene.Alias}})
			keyID, n := r.supplied(r1)
			var known *activities.Ref
			if tell {
				known = &n
			}
			out := r.discard(r1, known, false)
			if len(out.Left) != 1 || !strings.Contains(out.Left[0], n.Fingerprint) || !strings.Contains(out.Left[0], "https://") {
				t.Errorf("what is left: %q", out.Left)
			}
			r.keys(r.oldID, keyID)
			if s := r.record(0); s.Pending != nil || s.Claim != nil {
				t.Errorf("the record: %+v", s.Record)
			}
		})
	}
}

func TestASuppliedValueThatCannotBeTheNewKeyIsNotAdopted(t *testing.T) {
	r := newRig(t, setup{openai: true, stores: []string{scene.Alias}})
	_, elsewhere := r.OpenAI.CreateKey("proj_other", "of another project")
	for sentence, v := range map[string]secret.Value{
		"the old key":              r.First("gpt"),
		"no key at all":            secret.FromString("hello"),
		"a key of another project": elsewhere,
	} {
		_, _, err := r.acts.StageSupplied(context.Background(), r.key, r1, v)
		r.note(nil, err)
		f := r.fails(err, fault.Rejected, "unusable")
		if f.Advice == "" || strings.Contains(f.Error(), v.Reveal()) {
			t.Errorf("%s: %q", sentence, f.Error())
		}
	}
	if out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1)}); err != nil || out.Unusable == "" || out.New != nil {
		t.Errorf("nothing was supplied: %+v, %v", out, err)
	}
	if out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1), Version: "1"}); err != nil || out.Unusable == "" {
		t.Errorf("the current version: %+v, %v", out, err)
	}
}

func TestAPromoteThatWasCutOffConvergesAndTheDutiesComeFirst(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"before the second store":                  {Method: "AddSecretVersion", Kind: simcloud.DropBefore},
		"in the second store, without an answer":   {Method: "AddSecretVersion", Kind: simcloud.LoseReply},
		"after the value, before the record of it": {Method: "UpdateSecret", Kind: simcloud.DropBefore, Skip: 2},
		"after the record, without an answer":      {Method: "UpdateSecret", Kind: simcloud.LoseReply, Skip: 2},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t, google(scene.Alias, scene.Latest))
			p, err := r.prepare(r1, rotation.Manual)
			if err != nil {
				t.Fatal(err)
			}
			n := r.store(r1, r.create(r1))
			cut.Service, cut.Target, cut.Times = simcloud.SecretManagerService, "secrets/ci-latest", 1
			if cut.Method == "AddSecretVersion" {
				cut.Except = "pending"
			}
			r.Cloud.Inject(cut)
			_, err = r.tryPromote(r1, n, p.Old...)
			r.fails(err, fault.Unavailable, "")
			for i := range r.key.Stores {
				if d := r.record(i).Duties; len(d) != 1 || d[0].KeyID != r.oldID || d[0].Rotation != r1 {
					t.Errorf("the duties in store %d are not written: %+v", i, d)
				}
			}
			out, err := r.tryPromote(r1, n, p.Old...)
			if err != nil || len(out.Lagging) > 0 {
				t.Fatalf("%+v, %v", out, err)
			}
			for path, id := range r.Cloud.PublishedKeys() {
				if id != n.KeyID {
					t.Errorf("applications read %s at %s", id, path)
				}
			}
			if err := r.revoke(r1, activities.DeleteKey, p.Old...); err != nil {
				t.Error(err)
			}
			r.retire(r1, p.Old...)
			r.keys(n.KeyID)
		})
	}
}

func TestAPromoteSaysWhoseReadersLag(t *testing.T) {
	r := newRig(t, google(scene.Alias))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.create(r1)
	r.Cloud.SetTiming(simcloud.Timing{AliasLag: time.Hour})
	out, err := r.tryPromote(r1, n, p.Old...)
	if err != nil || !slices.Equal(out.Lagging, []string{"gsm:ci"}) {
		t.Fatalf("%+v, %v", out, err)
	}
	r.fails(r.revoke(r1, activities.DeleteKey, p.Old...), fault.Rejected, activities.StillStaged)
	r.advance(time.Hour)
	if out, err = r.tryPromote(r1, n, p.Old...); err != nil || len(out.Lagging) > 0 {
		t.Fatalf("an hour later: %+v, %v", out, err)
	}
}
