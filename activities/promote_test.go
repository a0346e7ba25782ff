package activities_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

func TestAPromoteThatWasCutOffConvergesAndTheDutiesComeFirst(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"before the second store":                  {Method: "AddSecretVersion", Kind: simcloud.DropBefore},
		"in the second store, without an answer":   {Method: "AddSecretVersion", Kind: simcloud.LoseReply},
		"after the value, before the record of it": {Method: "UpdateSecret", Kind: simcloud.DropBefore, Skip: 2},
		"after the record, without an answer":      {Method: "UpdateSecret", Kind: simcloud.LoseReply, Skip: 2},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
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
			_ = r.fails(err, fault.Unavailable, "")
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

// byHand makes a key as people do, makes it current in the i-th store, and returns its id.
func (r *fixture) byHand(i int) string {
	r.Helper()
	id, v, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		r.Fatal(err)
	}
	l := r.key.Stores[i]
	number, err := r.SM.AddVersion(l.Path, v)
	if err == nil && l.Store == scenario.Alias {
		err = r.SM.SetAlias(l.Path, "current", number)
	}
	if err != nil {
		r.Fatal(err)
	}
	return id
}

func (r *fixture) promoteWith(in activities.PromoteInput) (activities.Promoted, error) {
	out, err := r.acts.Promote(context.Background(), in)
	r.note(out, err)
	return out, err
}

// revisions report whether a record was changed.
func (r *fixture) revisions() (all []string) {
	for i := range r.key.Stores {
		all = append(all, r.record(i).Revision)
	}
	return all
}

func TestAValueThatSomebodyMadeCurrentMeanwhileIsNotOverwrittenWithoutAsking(t *testing.T) {
	for i, where := range []string{scenario.Alias, scenario.Latest} {
		for _, answer := range []string{"the question is approved", "what was found is a duty"} {
			t.Run(where+", then "+answer, func(t *testing.T) {
				r := newFixture(t, google(scenario.Alias, scenario.Latest))
				p, err := r.prepare(r1, rotation.Manual)
				if err != nil {
					t.Fatal(err)
				}
				n := r.store(r1, r.create(r1))
				hand := r.byHand(i)
				before := r.revisions()
				in := activities.PromoteInput{Target: r.target(r1), To: n, Duties: p.Old}
				var out activities.Promoted
				for range 2 {
					if out, err = r.promoteWith(in); err != nil || !slices.Equal(ids(out.Found), []string{hand}) {
						t.Fatalf("%+v, %v", out, err)
					}
				}
				for _, part := range []string{hand, out.Found[0].Fingerprint, r.key.Stores[i].String()} {
					if !names(out.Question, part) {
						t.Errorf("%q does not name %s", out.Question, part)
					}
				}
				if after := r.revisions(); !slices.Equal(before, after) || r.Cloud.PublishedKeys()[scenario.Path(where, "ci")] != hand {
					t.Error("asking has changed something")
				}
				in.ApprovedQuestions = []rotation.Ask{{Kind: activities.ChangedCurrent, About: []string{"another"}}}
				if out, err := r.promoteWith(in); err != nil || out.Question == nil {
					t.Errorf("another question was approved: %+v, %v", out, err)
				}
				in.ApprovedQuestions = []rotation.Ask{*out.Question}
				old := append(slices.Clone(p.Old), out.Found...)
				if answer == "what was found is a duty" {
					in.ApprovedQuestions, in.Duties = nil, old
				}
				if out, err = r.promoteWith(in); err != nil || out.Question != nil || len(out.Lagging) > 0 {
					t.Fatalf("%+v, %v", out, err)
				}
				for i := range r.key.Stores {
					if d := r.record(i).Duties; len(d) != 2 || d[0].KeyID != r.oldID || d[1].KeyID != hand {
						t.Errorf("the duties in store %d: %+v", i, d)
					}
				}
				if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
					t.Fatal(err)
				}
				r.retire(r1, old...)
				r.keys(n.KeyID)
			})
		}
	}
}

func TestAQuestionAboutOneValueDoesNotGrantAnother(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.store(r1, r.create(r1))
	first := r.byHand(0)
	in := activities.PromoteInput{Target: r.target(r1), To: n, Duties: p.Old}
	out, err := r.promoteWith(in)
	if err != nil || !slices.Equal(ids(out.Found), []string{first}) {
		t.Fatalf("%+v, %v", out, err)
	}
	second := r.byHand(1)
	in.ApprovedQuestions = []rotation.Ask{*out.Question}
	if out, err = r.promoteWith(in); err != nil || out.Question == nil || !slices.Equal(ids(out.Found), []string{first, second}) {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAValueThatSomebodyMadeCurrentBetweenTwoTriesOfAPromoteIsAskedAbout(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.store(r1, r.create(r1))
	cut := inStore("AddSecretVersion", simcloud.DropBefore)
	cut.Target, cut.Except = "secrets/ci-latest", "pending"
	r.Cloud.Inject(cut)
	if _, err := r.tryPromote(r1, n, p.Old...); err == nil {
		t.Fatal("promote finished")
	}
	hand := r.byHand(1)
	before := r.revisions()
	out, err := r.tryPromote(r1, n, p.Old...)
	if err != nil || !slices.Equal(ids(out.Found), []string{hand}) || !slices.Equal(before, r.revisions()) {
		t.Fatalf("%+v, %v", out, err)
	}
	// Nor on the way back, where the new key is what is to be revoked.
	if out, err = r.tryPromote(r1, p.Old[0], n); err != nil || !slices.Equal(ids(out.Found), []string{hand}) {
		t.Errorf("in reverse: %+v, %v", out, err)
	}
	if out, err = r.tryPromote(r1, p.Old[0], append([]activities.Ref{n}, out.Found...)...); err != nil || out.Question != nil {
		t.Fatalf("in reverse, with its duty: %+v, %v", out, err)
	}
	for path, id := range r.Cloud.PublishedKeys() {
		if id != r.oldID {
			t.Errorf("applications read %s at %s", id, path)
		}
	}
}

func TestAValueThatSomebodyMakesCurrentInTheMiddleOfAPromoteIsNotOverwritten(t *testing.T) {
	for i, where := range []string{scenario.Alias, scenario.Latest} {
		for sentence, held := range map[string]simcloud.Fault{
			"before the duties are written": {Method: "UpdateSecret"},
			"after the duties were written": {Method: "UpdateSecret", Skip: 1},
		} {
			if where == scenario.Latest && held.Skip > 0 {
				continue // the store itself adds a version there, and cannot compare
			}
			t.Run(where+", "+sentence, func(t *testing.T) {
				r := newFixture(t, google(scenario.Alias, scenario.Latest))
				p, err := r.prepare(r1, rotation.Manual)
				if err != nil {
					t.Fatal(err)
				}
				n := r.store(r1, r.create(r1))
				held.Service, held.Target, held.Kind, held.Times = simcloud.SecretManagerService, "secrets/"+r.key.Stores[i].Path, simcloud.Hold, 1
				if where == scenario.Alias {
					held.Except = "latest"
				}
				held.Reached, held.Release = make(chan struct{}), make(chan struct{})
				r.Cloud.Inject(held)
				cut := make(chan error)
				go func() {
					_, err := r.tryPromote(r1, n, p.Old...)
					cut <- err
				}()
				<-held.Reached
				hand := r.byHand(i)
				close(held.Release)
				first := <-cut
				if got := r.Cloud.PublishedKeys()[scenario.Path(where, "ci")]; got != hand {
					t.Fatalf("applications read %s: what somebody set by hand was overwritten (%v)", got, first)
				}
				_ = r.fails(first, fault.Unavailable, "") // and is tried again
				out, err := r.tryPromote(r1, n, p.Old...)
				if err != nil || !slices.Equal(ids(out.Found), []string{hand}) {
					t.Errorf("%+v, %v", out, err)
				}
			})
		}
	}
}

func TestAPromoteKnowsWhatItMayReplace(t *testing.T) {
	for sentence, arrange := range map[string]func(r *fixture, n, old activities.Ref){
		"the old key, made current by hand in one store after the promote": func(r *fixture, n, old activities.Ref) {
			if err := r.SM.SetAlias("ci", "current", 1); err != nil {
				r.Fatal(err)
			}
		},
		"the same key once more, as another version": func(r *fixture, n, old activities.Ref) {
			v, err := r.acts.Stores[scenario.Latest].Published(context.Background(), "ci-latest")
			if err != nil {
				r.Fatal(err)
			}
			if _, err := r.SM.AddVersion("ci-latest", v); err != nil {
				r.Fatal(err)
			}
		},
		"itself": func(*fixture, activities.Ref, activities.Ref) {},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			arrange(r, n, old[0])
			// Without duties in the input: the records have them.
			out, err := r.tryPromote(r1, n)
			if err != nil || out.Question != nil || len(out.Lagging) > 0 {
				t.Errorf("%+v, %v", out, err)
			}
			// And back.
			if out, err = r.tryPromote(r1, old[0], n); err != nil || out.Question != nil || len(out.Lagging) > 0 {
				t.Errorf("back: %+v, %v", out, err)
			}
		})
	}
}

func TestAPromoteSaysWhoseReadersLag(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
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
	_ = r.fails(r.revoke(r1, activities.DeleteKey, p.Old...), fault.Rejected, activities.StillStaged)
	r.Advance(time.Hour)
	if out, err = r.tryPromote(r1, n, p.Old...); err != nil || len(out.Lagging) > 0 {
		t.Fatalf("an hour later: %+v, %v", out, err)
	}
}
