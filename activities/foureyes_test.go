package activities_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// sshKey is an operator's key, always the same for the same name.
func sshKey(t *testing.T, name string) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(ed25519.NewKeyFromSeed([]byte((name + strings.Repeat(".", 32))[:32])))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// underFourEyes is a key whose approvals two of the named operators sign.
func underFourEyes(t *testing.T, names ...string) setup {
	t.Helper()
	s := google(scenario.Alias, scenario.Latest)
	s.opts.Policy = []string{"four_eyes: true"}
	for _, n := range names {
		s.opts.Operators = append(s.opts.Operators, fmt.Sprintf("{name: %s, ssh_key: %q}", n, signed.Line(sshKey(t, n).PublicKey())))
	}
	return s
}

// approvalBy is an approval of a revoke, signed.
func (r *fixture) approvalBy(change func(*rotation.Question), names ...string) *rotation.Approval {
	r.Helper()
	q := rotation.Question{
		Namespace: "default", Workflow: "rotate/ci", Rotation: r1, Key: r.key.Name, Number: 1, Kind: rotation.Approve, Subject: "revoke-policy",
		Text: "May the old key go?", Effect: "revoke it", Revokes: []string{r.oldID}, Asked: r.Now(),
	}
	if change != nil {
		change(&q)
	}
	a := &rotation.Approval{Question: q}
	for _, n := range names {
		m := rotation.DecisionMessage{By: n, Why: "no use seen", SignedAt: r.Now()}
		var err error
		if m.Signature, err = signed.Sign(sshKey(r.T, n), signed.Text(q, m)); err != nil {
			r.Fatal(err)
		}
		// What a record claims about its signer is not believed.
		a.Decisions = append(a.Decisions, rotation.Decision{Kind: rotation.Approve, DecisionMessage: m, Signer: &rotation.Signer{Operator: "somebody else"}})
	}
	return a
}

func TestRevokeUnderFourEyesTakesAwayOnlyWhatTwoOperatorsHaveSigned(t *testing.T) {
	for sentence, c := range map[string]struct {
		approval  func(r *fixture) *rotation.Approval
		emergency string
		now       func(r *fixture) // what changed since
		advice    string           // empty: the key goes
	}{
		"two operators have signed": {approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice", "bob") }},
		"an emergency":              {emergency: "mallory"},
		"an emergency after two have signed": {
			approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice", "bob") }, emergency: "mallory",
		},
		"nobody has signed":             {advice: "nobody has signed"},
		"one has signed":                {approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice") }, advice: "signatures of two operators"},
		"one has signed twice":          {approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice", "alice") }, advice: "signatures of two operators"},
		"one of two is not an operator": {approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice", "mallory") }, advice: "signatures of two operators"},
		"one of two is not an operator any more": {
			approval: func(r *fixture) *rotation.Approval { return r.approvalBy(nil, "alice", "bob") },
			now: func(r *fixture) {
				r.acts.Operators = append(r.acts.Operators[:0:0], r.acts.Operators[0], r.acts.Operators[2])
			},
			advice: "whom the worker's rekey.yaml names now",
		},
		"a rotation that says it is not under four eyes": {now: func(r *fixture) { r.key.Policy.FourEyes = false }, advice: "nobody has signed"},
		"another rotation": {approval: func(r *fixture) *rotation.Approval {
			return r.approvalBy(func(q *rotation.Question) { q.Rotation = r2 }, "alice", "bob")
		}, advice: "not an approval of this revoke"},
		"another key": {approval: func(r *fixture) *rotation.Approval {
			return r.approvalBy(func(q *rotation.Question) { q.Key = "other" }, "alice", "bob")
		}, advice: "not an approval of this revoke"},
		"another question": {approval: func(r *fixture) *rotation.Approval {
			return r.approvalBy(func(q *rotation.Question) { q.Subject = "foreign-claim" }, "alice", "bob")
		}, advice: "not an approval of this revoke"},
		"the end of the grace period": {approval: func(r *fixture) *rotation.Approval {
			return r.approvalBy(func(q *rotation.Question) { q.Kind = rotation.FinishGrace }, "alice", "bob")
		}, advice: "not an approval of this revoke"},
		"another old key": {approval: func(r *fixture) *rotation.Approval {
			return r.approvalBy(func(q *rotation.Question) { q.Revokes = []string{"0000"} }, "alice", "bob")
		}, advice: "does not name the key"},
		"a question that was changed after it was signed": {approval: func(r *fixture) *rotation.Approval {
			a := r.approvalBy(nil, "alice", "bob")
			a.Question.Text = "May the new key go?"
			return a
		}, advice: "signatures of two operators"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, underFourEyes(t, "alice", "bob", "carol"))
			n, old := r.published(r1)
			if c.now != nil {
				c.now(r)
			}
			in := activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Emergency: c.emergency}
			if c.approval != nil {
				in.Approval = c.approval(r)
			}
			for _, in.Mode = range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
				_, err := r.tryRevoke(in)
				switch {
				case c.advice == "" && err != nil:
					t.Fatal(err)
				case c.advice == "":
				default:
					if f := r.fails(err, fault.Rejected, activities.FourEyes); !strings.Contains(f.Advice, c.advice) || !strings.HasPrefix(f.Advice, "Nothing was revoked.") {
						t.Errorf("%q does not say %q", f.Advice, c.advice)
					}
				}
			}
			if c.advice != "" && !r.live(r.oldID) {
				t.Error("the old key is gone")
			}
			said := r.said.String()
			if without := strings.Contains(said, `"msg":"revoked without four eyes"`); without != (c.emergency != "" && c.approval == nil) {
				t.Errorf("the audit record says that it was revoked without four eyes: %v", without)
			}
			if two := strings.Contains(said, `"msg":"revoke signed"`); two != (c.advice == "" && c.approval != nil) {
				t.Errorf("the audit record says that two have signed: %v", two)
			}
			// To enable a key again needs nobody's signature.
			in.Mode, in.Approval, in.Emergency = activities.EnableKey, nil, ""
			if c.advice != "" {
				if _, err := r.tryRevoke(in); err != nil {
					t.Errorf("enable: %v", err)
				}
			}
		})
	}
}

func TestWhoSignsComesFromTheWorkersOwnFileAlone(t *testing.T) {
	on := func(r *fixture) { r.key.Policy.FourEyes = true }
	off := func(r *fixture) { r.key.Policy.FourEyes = false }
	for sentence, c := range map[string]struct {
		file   bool // the file asks for four eyes
		input  func(r *fixture)
		want   string // names; "refused"
		reason rotation.Reason
	}{
		"file and input ask":                       {true, on, "alice bob", rotation.Manual},
		"the input leaves it out":                  {true, off, "alice bob", rotation.Manual},
		"the input asks and the file does not":     {false, on, "refused", rotation.Manual},
		"so in an emergency":                       {false, on, "", rotation.Emergency},
		"nobody asks":                              {false, off, "", rotation.Manual},
		"a key with another name of the same kind": {true, func(r *fixture) { r.key.Name, r.key.Policy.FourEyes = "made-up", false }, "alice bob", rotation.Manual},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := google(scenario.Alias, scenario.Latest)
			if c.file {
				s = underFourEyes(t, "alice", "bob")
			}
			r := newFixture(t, s)
			name := r.key.Name
			defer func() { r.key.Name = name }()
			c.input(r)
			// The lists of allowed accounts and paths are not what this is about.
			r.acts.Allow = func(rotation.Key) error { return nil }
			p, err := r.prepare(r1, c.reason)
			var names []string
			for _, o := range p.Signers {
				names = append(names, o.Name)
			}
			got := strings.Join(names, " ")
			if err != nil {
				_ = r.fails(err, fault.Rejected, activities.FourEyes)
				got = "refused"
			}
			if got != c.want {
				t.Errorf("signers %q, want %q", got, c.want)
			}
			again, err := r.acts.Signers(context.Background(), r.target(r1))
			if r.note(again, err); c.want != "refused" && c.reason != rotation.Emergency && (err != nil || len(again) != len(names)) {
				t.Errorf("Signers: %v, %v", again, err)
			}
		})
	}
}
