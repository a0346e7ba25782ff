package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func openAI(stores ...string) setup { return setup{openai: true, stores: stores} }

func (r *fixture) adopt(id, version string, old ...activities.Ref) activities.Adopted {
	r.Helper()
	out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(id), Version: version, Old: old, StartedAt: r.begin})
	if r.note(out, err); err != nil {
		r.Fatalf("Adopt: %v", err)
	}
	return out
}

// typed is a key that a person made and put into the first store with quotes around it.
func (r *fixture) typed(name, quote string) (version string, v secret.Value) {
	r.Helper()
	_, v = r.OpenAI.CreateKey(r.key.Account, name)
	l := r.key.Stores[0]
	version, err := r.acts.Stores[l.Store].Add(context.Background(), l.Path, secret.FromString(quote+v.Reveal()+quote))
	if err != nil {
		r.Fatal(err)
	}
	return version, v
}

// readable are the versions of the first store that can be read.
func (r *fixture) readable() []string {
	r.Helper()
	l := r.key.Stores[0]
	all, err := r.acts.Stores[l.Store].Versions(context.Background(), l.Path)
	if err != nil {
		r.Fatal(err)
	}
	return all
}

func TestWhatACleanCopyWasMadeFromIsDestroyedInTheSecondTry(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, openAI(where))
			raw, v := r.typed("new", `"`)
			// As if the worker had died just before.
			r.Cloud.Inject(inStore("DestroySecretVersion", simcloud.DropBefore))
			first := r.adopt(r1, raw)
			if first.New == nil || first.New.Numbers[0] == raw || first.New.Fingerprint != v.Fingerprint() {
				t.Fatalf("adopted %+v, want a clean copy of version %s", first, raw)
			}
			if !slices.Contains(r.readable(), raw) {
				t.Fatal("the value with quotes is gone already: the test proves nothing")
			}
			again := r.adopt(r1, raw)
			if again.New == nil || again.New.Numbers[0] != first.New.Numbers[0] {
				t.Errorf("the second try adopted %+v, want %+v", again, first)
			}
			if slices.Contains(r.readable(), raw) {
				t.Errorf("version %s, with quotes around the key, stays in the store for ever", raw)
			}
		})
	}
}

func TestAResetRotationTakesTheKeyThatItPublished(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, openAI(where))
			prepared, err := r.prepare(r1, rotation.Manual)
			if err != nil {
				t.Fatal(err)
			}
			version, v := r.typed("new", "")
			adopted := r.adopt(r1, version, prepared.Old...)
			promoted, err := r.tryPromote(r1, *adopted.New, prepared.Old...)
			if err != nil {
				t.Fatal(err)
			}
			for _, named := range []string{"", version, promoted.To.Numbers[0]} {
				if out := r.adopt(r1, named, prepared.Old...); out.New == nil || out.New.Fingerprint != v.Fingerprint() || out.New.Numbers[0] != promoted.To.Numbers[0] {
					t.Errorf("version %q: %+v, want the published key %s as version %s", named, out, v.Fingerprint(), promoted.To.Numbers[0])
				}
			}
			other, _ := r.typed("another", "")
			if out := r.adopt(r1, other, prepared.Old...); out.New != nil || !strings.Contains(out.Unusable, v.Fingerprint()) {
				t.Errorf("another key was taken, and nobody would ever revoke %s: %+v", v.Fingerprint(), out)
			}
			// The next rotation is free to replace it, once this one has given its claim back.
			r.write(0, func(s *store.Snapshot) { s.Claim = nil })
			if out := r.adopt(r2, other, promoted.To); out.New == nil {
				t.Errorf("the next rotation takes no key: %s", out.Unusable)
			}
		})
	}
}

func TestNobodyIsToldToDeleteTheOldKeyThatWasSuppliedByMistake(t *testing.T) {
	r := newFixture(t, openAI(scenario.Alias))
	prepared, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	l := r.key.Stores[0]
	version, err := r.acts.Stores[l.Store].Add(context.Background(), l.Path, r.First(r.key.Name))
	if err != nil {
		t.Fatal(err)
	}
	if out := r.adopt(r1, version, prepared.Old...); out.Unusable == "" || out.Stays != "" {
		t.Errorf("%+v: the rotation would list version %s as one whose key is to be deleted", out, version)
	}
	_, v := r.OpenAI.CreateKey("proj_other", "of others")
	if version, err = r.acts.Stores[l.Store].Add(context.Background(), l.Path, v); err != nil {
		t.Fatal(err)
	}
	if out := r.adopt(r1, version, prepared.Old...); out.Unusable == "" || out.Stays != version {
		t.Errorf("%+v: want version %s listed, which holds another project's key", out, version)
	}
}

func TestAPersonIsToldByWhatTheConsoleShowsAKey(t *testing.T) {
	for _, where := range []string{scenario.Alias, scenario.Latest} {
		t.Run(where, func(t *testing.T) {
			r := newFixture(t, openAI(where))
			prepared, err := r.prepare(r1, rotation.Manual)
			if err != nil || len(prepared.Old) != 1 {
				t.Fatalf("prepared %+v, %v", prepared, err)
			}
			raw, v := r.typed("new", `"`)
			adopted := r.adopt(r1, raw, prepared.Old...)
			for what, c := range map[string]struct {
				ref   *activities.Ref
				value secret.Value
			}{"the old key": {&prepared.Old[0], r.First("gpt")}, "the new key": {adopted.New, v}} {
				plain := c.value.Reveal()
				if c.ref == nil || c.ref.Shown != "sk-..."+plain[len(plain)-4:] || c.ref.AddedAt.IsZero() {
					t.Errorf("%s is described by %+v", what, c.ref)
				}
			}
		})
	}
	t.Run("a store that does not answer costs the hint only", func(t *testing.T) {
		r := newFixture(t, openAI(scenario.Alias))
		r.Cloud.Inject(inStore("GetSecretVersion", simcloud.Refuse))
		prepared, err := r.prepare(r1, rotation.Manual)
		if err != nil || len(prepared.Old) != 1 || prepared.Old[0].Shown == "" || !prepared.Old[0].AddedAt.IsZero() {
			t.Errorf("prepared %+v, %v", prepared, err)
		}
	})
	t.Run("a key that has an id is known by it", func(t *testing.T) {
		r := newFixture(t, setup{stores: []string{scenario.Alias}})
		prepared, err := r.prepare(r1, rotation.Manual)
		if err != nil || len(prepared.Old) != 1 || prepared.Old[0].KeyID == "" || prepared.Old[0].Shown != "" {
			t.Errorf("prepared %+v, %v", prepared, err)
		}
	})
}

func TestASuppliedVersionMustHoldWhatWasSupplied(t *testing.T) {
	for sentence, c := range map[string]struct {
		quote       string
		fingerprint func(value secret.Value) string
		taken       bool
	}{
		"the same value":           {fingerprint: secret.Value.Fingerprint, taken: true},
		"the same value in quotes": {quote: `"`, fingerprint: secret.Value.Fingerprint, taken: true},
		"nobody says":              {fingerprint: func(secret.Value) string { return "" }, taken: true},
		"another value":            {fingerprint: func(secret.Value) string { return "0123456789ab" }},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, openAI(scenario.Alias))
			version, v := r.typed("new", c.quote)
			out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1), Version: version, Fingerprint: c.fingerprint(v), StartedAt: r.begin})
			r.note(out, err)
			if err != nil || (out.New != nil) != c.taken {
				t.Fatalf("%+v, %v", out, err)
			}
			if !c.taken && (!strings.Contains(out.Unusable, v.Fingerprint()) || !strings.Contains(out.Unusable, "0123456789ab")) {
				t.Errorf("it does not say what was found and what was wanted: %q", out.Unusable)
			}
			if !c.taken && r.record(0).Pending != nil {
				t.Error("it is staged all the same")
			}
		})
	}
}

func TestWhatWasStagedBeforeIsNotTakenForAnotherSuppliedValue(t *testing.T) {
	r := newFixture(t, openAI(scenario.Alias))
	version, v := r.typed("first", "")
	if out := r.adopt(r1, version); out.New == nil {
		t.Fatalf("%+v", out)
	}
	adopt := func(version string) activities.Adopted {
		out, err := r.acts.Adopt(context.Background(), activities.AdoptInput{Target: r.target(r1), Version: version, Fingerprint: "0123456789ab", StartedAt: r.begin})
		if r.note(out, err); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := adopt("99"); out.New != nil || !strings.Contains(out.Unusable, "0123456789ab") {
		t.Errorf("while it is pending: %+v", out)
	}
	n := activities.Ref{Fingerprint: v.Fingerprint(), Numbers: []string{version}}
	out, err := r.tryPromote(r1, n)
	if err == nil && out.Question != nil {
		_, err = r.tryPromote(r1, n, out.Found...)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, named := range []string{"", "99"} {
		if out := adopt(named); out.New != nil || !strings.Contains(out.Unusable, v.Fingerprint()) {
			t.Errorf("when applications read it, version %q: %+v", named, out)
		}
	}
}
