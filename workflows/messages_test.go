package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// listener is a rotation that comes to the phase that a message is for, and what it said of the message.
type listener struct {
	*fixture
	// at is when it is in that phase.
	at time.Duration
	// details are what it says a minute after the message.
	details string
}

// listening brings a rotation to the phase that a kind of message is for.
func listening(t *testing.T, kind rotation.DecisionKind) *listener {
	r := newFixture(t, manualKey().policy("grace: 12h"))
	l := &listener{fixture: r, at: time.Hour}
	switch kind {
	case rotation.Approve, rotation.Reject:
		s := r.acts.Stores[scenario.Alias]
		snap, err := s.Load(context.Background(), "gpt")
		if err == nil {
			snap.Install = "other1"
			_, err = s.Save(context.Background(), "gpt", snap)
		}
		if err != nil {
			t.Fatal(err)
		}
	case rotation.ExtendGrace, rotation.FinishGrace:
		l.at = 3 * time.Hour
		r.after(time.Hour, func() { r.supply() })
	case rotation.KeyRevoked:
		l.at = 20 * time.Hour
		r.after(time.Hour, func() { r.supply() })
	}
	return l
}

// send sends a signal as it stands; nil is a signal without input.
func (l *listener) send(kind rotation.DecisionKind, input any) {
	if text, ok := input.(json.RawMessage); ok {
		if len(text) == 0 {
			input = nil
		} else {
			// As the Temporal UI sends it: what somebody typed.
			p, err := converter.GetDefaultDataConverter().ToPayload("")
			if err != nil {
				l.Fatal(err)
			}
			p.Data = text
			input = converter.NewRawValue(p)
		}
	}
	l.env.SignalWorkflow(string(kind), input)
}

// end lets the rotation go on for at most a day more, and gives the decisions that it keeps, and all that it keeps.
func (l *listener) end() (kept []rotation.Decision, all []byte) {
	l.Helper()
	l.after(l.at+time.Minute, func() {
		l.details = l.status().Details
		l.env.SetContinueAsNewSuggested(true)
	})
	l.env.ExecuteWorkflow(workflows.RotateKey, l.in)
	var again *workflow.ContinueAsNewError
	switch err := l.env.GetWorkflowError(); {
	case err == nil:
		var res rotation.Result
		if err := l.env.GetWorkflowResult(&res); err != nil {
			l.Fatal(err)
		}
		all, _ = json.Marshal(res)
		return res.Decisions, all
	case errors.As(err, &again):
		var in workflows.Input
		if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
			l.Fatal(err)
		}
		for _, p := range again.Input.GetPayloads() {
			all = append(all, p.GetData()...)
		}
		if in.Resume == nil {
			return in.Carry.Decisions, all
		}
		return in.Resume.Carry.Decisions, all
	default:
		l.Fatalf("the rotation ended with %v", err)
		return nil, nil
	}
}

// count is how often a kind of decision was taken.
func count(all []rotation.Decision, kind rotation.DecisionKind) (n int) {
	for _, d := range all {
		if d.Kind == kind && d.By != "operator" {
			n++
		}
	}
	return n
}

func TestASignalIsTakenWhereItIsClearAndAnsweredWhereItIsNot(t *testing.T) {
	t.Parallel()
	all := rotation.DecisionKinds()
	but := func(without ...rotation.DecisionKind) []rotation.DecisionKind {
		return slices.DeleteFunc(slices.Clone(all), func(k rotation.DecisionKind) bool { return slices.Contains(without, k) })
	}
	const needsTime1, needsTime2 = rotation.ExtendGrace, rotation.ExtendDeadline
	for what, c := range map[string]struct {
		input string
		taken []rotation.DecisionKind
		// answer is part of what the details say otherwise.
		answer string
	}{
		"no input":                      {"", but(needsTime1, needsTime2, rotation.AddNote), "was not accepted"},
		"null":                          {"null", but(needsTime1, needsTime2, rotation.AddNote), "was not accepted"},
		"an empty object":               {"{}", but(needsTime1, needsTime2, rotation.AddNote), "was not accepted"},
		"a text":                        {`"night shift"`, but(needsTime1, needsTime2), "say how much longer"},
		"all that can be needed":        {`{"by": "night shift", "why": "because", "for": "2h"}`, all, ""},
		"an object in quotes":           {`"{\"by\": \"night shift\", \"why\": \"because\", \"for\": \"2h\"}"`, all, ""},
		"a length of time alone":        {`"2h"`, all, ""},
		"a version alone":               {`"7"`, but(needsTime1, needsTime2), "say how much longer"},
		"a list":                        {`[1, 2, 3]`, nil, "it is a list"},
		"a list with the object":        {`[{"by": "night shift"}]`, nil, "it is a list"},
		"a number":                      {`7`, []rotation.DecisionKind{rotation.KeySupplied}, "it is a number"},
		"half a number":                 {`7.5`, nil, "it is a number"},
		"yes":                           {`true`, nil, "it is not an object"},
		"no JSON":                       {`{by: night shift}`, nil, "it is not valid JSON"},
		"two objects":                   {`{"by": "a"} {"by": "b"}`, nil, "it is not valid JSON"},
		"a length of time in words":     {`{"by": "night shift", "why": "because", "for": "twelve"}`, nil, `the field "for" is not a valid duration such as "12h" or "2d"`},
		"a length of time as a number":  {`{"by": "night shift", "why": "because", "for": 12}`, nil, `"for"`},
		"a name that is a number":       {`{"by": 5, "why": "because", "for": "2h"}`, nil, `the field "by" cannot be a number`},
		"a version that is a number":    {`{"by": "night shift", "why": "because", "for": "2h", "version": 7}`, all, ""},
		"one leaked value and no list":  {`{"by": "night shift", "why": "because", "for": "2h", "leaked": "0123456789ab"}`, all, ""},
		"a field that does not exist":   {`{"by": "night shift", "why": "because", "for": "2h", "vresion": "7"}`, nil, `unknown field "vresion"`},
		"an object with markup in it":   {`{"<b>": "[x](http://y)"}`, nil, "unknown field"},
		"a name as long as a letter":    {`"` + strings.Repeat("night shift ", 40) + `"`, but(needsTime1, needsTime2), "say how much longer"},
		"a length of time below zero":   {`{"by": "night shift", "why": "because", "for": "-2h"}`, nil, `"for"`},
		"fields twice, the last counts": {`{"by": "x", "by": "night shift", "why": "because", "for": "2h"}`, all, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, kind := range all {
				l := listening(t, kind)
				l.after(l.at, func() { l.send(kind, json.RawMessage(c.input)) })
				kept, _ := l.end()
				n, taken := count(kept, kind), slices.Contains(c.taken, kind)
				switch {
				case taken && n != 1:
					t.Errorf("%s: taken %d times\n%s", kind, n, l.details)
				case !taken && n != 0:
					t.Errorf("%s: taken as %+v", kind, kept)
				case !taken && (!strings.Contains(l.details, "**Note:**") || !strings.Contains(l.details, c.answer)):
					t.Errorf("%s: the details do not answer %q:\n%s", kind, c.answer, l.details)
				case taken && (strings.Contains(l.details, "could not be read") || strings.Contains(l.details, "was not accepted")):
					t.Errorf("%s: was taken, and the details complain:\n%s", kind, l.details)
				}
				if len(l.details) >= 2048 {
					t.Errorf("%s: %d bytes of details", kind, len(l.details))
				}
			}
		})
	}
}

func TestAMessageThatIsTooLongIsNotReadAndAnsweredSo(t *testing.T) {
	t.Parallel()
	long := rotation.DecisionMessage{By: "night shift", Why: strings.Repeat("a word ", 100_000), For: rotation.Duration(2 * time.Hour)}
	for _, kind := range rotation.DecisionKinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			l := listening(t, kind)
			l.after(l.at, func() {
				l.env.UpdateWorkflow(string(kind), "long", &answer{T: t, refused: true}, long)
				l.send(kind, long)
			})
			kept, all := l.end()
			if count(kept, kind) != 0 || len(all) > 100_000 {
				t.Errorf("%d are kept, and %d bytes", count(kept, kind), len(all))
			}
			if !strings.Contains(l.details, "was not read") || !strings.Contains(l.details, "treat that key as leaked") {
				t.Errorf("the details do not say so:\n%s", l.details)
			}
		})
	}
}

func TestOfThousandsOfMessagesARotationKeepsWhatMattersAndTheLatest(t *testing.T) {
	t.Parallel()
	l := listening(t, rotation.AddNote)
	l.after(time.Minute, func() {
		l.signal(rotation.ExtendDeadline, rotation.DecisionMessage{By: "ana", Why: "later", For: rotation.Duration(time.Hour)})
	})
	const notes = 3000
	var next func(n int)
	next = func(n int) {
		l.signal(rotation.AddNote, rotation.DecisionMessage{By: "a script", Why: fmt.Sprint(strings.Repeat("a note ", 70), n)})
		if n+1 < notes {
			l.after(time.Second, func() { next(n + 1) })
		}
	}
	l.after(2*time.Minute, func() { next(0) })
	kept, all := l.end()
	// Temporal takes 2 MB.
	if len(all) > 1_000_000 {
		t.Errorf("%d bytes are carried along", len(all))
	}
	if kept[0].Kind != rotation.ExtendDeadline || !strings.HasSuffix(kept[len(kept)-1].Why, fmt.Sprint(" ", notes-1)) || len(kept) < 200 {
		t.Errorf("of %d the first is %+v, the last %+v", len(kept), kept[0], kept[len(kept)-1])
	}
}

func TestTheSameSignalTwiceIsHarmless(t *testing.T) {
	t.Parallel()
	for how, input := range map[string]string{
		"with an id":    `{"id": "one", "by": "night shift", "why": "because", "for": "2h"}`,
		"without an id": `{"by": "night shift", "why": "because", "for": "2h"}`,
	} {
		t.Run(how, func(t *testing.T) {
			for _, kind := range rotation.DecisionKinds() {
				again := how == "without an id" && slices.Contains([]rotation.DecisionKind{rotation.ExtendGrace, rotation.ExtendDeadline, rotation.AddNote}, kind)
				l := listening(t, kind)
				l.after(l.at, func() {
					l.send(kind, json.RawMessage(input))
					l.send(kind, json.RawMessage(input))
				})
				kept, _ := l.end()
				n := count(kept, kind)
				// A key that is supplied or revoked is looked at once more: that changes nothing.
				if n < 1 || n > 2 || n == 2 && !again && kind != rotation.KeySupplied && kind != rotation.KeyRevoked && kind != rotation.RaiseEmergency {
					t.Errorf("%s: taken %d times", kind, n)
				}
				if strings.Contains(l.details, "was not accepted") {
					t.Errorf("%s: the details complain about the second one:\n%s", kind, l.details)
				}
			}
		})
	}
}

func TestASignalThatComesAtTheWrongTimeIsKeptIfItIsClearAndElseAnswered(t *testing.T) {
	t.Parallel()
	early := func(r *fixture, kind rotation.DecisionKind, want string) {
		r.after(10*time.Hour+time.Minute, func() {
			if d := r.status().Details; !strings.Contains(d, want) {
				r.Errorf("the details do not say %q of %s:\n%s", want, kind, d)
			}
		})
	}
	t.Run("a key that is supplied before anybody asks for it is taken up", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.whenStarted("Prepare", func() {
			r.supply()
		})
		r.after(time.Hour, func() {
			if s := r.status(); s.Phase != rotation.Grace {
				t.Errorf("phase %s: it waits for a key that it has\n%s", s.Phase, s.Details)
			}
			r.signal(rotation.FinishGrace, rotation.DecisionMessage{})
		})
		r.after(2*time.Hour, func() {
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.replaced(r.run())
	})
	t.Run("a revocation that is reported in grace is checked when its time has come", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.after(time.Hour, func() { r.supply() })
		r.after(10*time.Hour, func() {
			r.rules.MayDie = []string{r.oldID}
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		early(r, rotation.KeyRevoked, "It is kept until it is needed")
		begin := r.now()
		res := r.run()
		r.replaced(res)
		if took := res.EndedAt.Sub(begin); took > 3*day {
			t.Errorf("it took %s: somebody was asked once more", took)
		}
	})
	t.Run("a revocation that is reported in grace and did not happen is asked for", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.after(time.Hour, func() { r.supply() })
		r.after(10*time.Hour, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
		r.after(4*day, func() {
			if s := r.status(); s.Phase != rotation.AwaitingRevocation || !strings.Contains(s.Details, "it was not revoked") {
				t.Errorf("phase %s\n%s", s.Phase, s.Details)
			}
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.replaced(r.run())
	})
	t.Run("a revocation of the old key says nothing about the new one after a roll-back", func(t *testing.T) {
		r := newFixture(t, manualKey())
		var id string
		r.after(time.Hour, func() { id = r.supply() })
		r.after(10*time.Hour, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
		r.after(11*time.Hour, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
		r.after(5*day, func() {
			if s := r.status(); s.Phase != rotation.RollingBack || !strings.Contains(s.Details, "Revoke the new key") || strings.Contains(s.Details, "not revoked") {
				t.Errorf("phase %s\n%s", s.Phase, s.Details)
			}
			_ = r.OpenAI.DeleteKey(id)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.unchanged(r.run())
	})
	for what, c := range map[string]struct {
		setup setup
		kind  rotation.DecisionKind
		want  string
	}{
		"a revocation before there is a new key":         {manualKey(), rotation.KeyRevoked, "key-revoked is for the phase awaiting-revocation; this rotation is in awaiting-key"},
		"an approval before anything is asked":           {manualKey(), rotation.Approve, "approve is for the phase awaiting-approval; this rotation is in awaiting-key"},
		"a key for a provider that makes its own":        {bothStores(), rotation.KeySupplied, "key-supplied is for the phase awaiting-key; this rotation is in grace"},
		"a revocation at a provider that revokes itself": {bothStores(), rotation.KeyRevoked, "key-revoked is for the phase awaiting-revocation; this rotation is in grace"},
		"an end of grace before it began":                {manualKey(), rotation.FinishGrace, "finish-grace is for the phase grace; this rotation is in awaiting-key"},
	} {
		t.Run(what+" is answered", func(t *testing.T) {
			r := newFixture(t, c.setup)
			r.after(10*time.Hour, func() { r.signal(c.kind, rotation.DecisionMessage{}) })
			early(r, c.kind, c.want)
			r.after(11*time.Hour, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
			r.run()
		})
	}
	t.Run("a key that is supplied too late is answered", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.after(time.Hour, func() { r.supply() })
		r.after(10*time.Hour, func() { r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "9"}) })
		early(r, rotation.KeySupplied, "key-supplied is for the phase awaiting-key; this rotation is in grace")
		r.after(4*day, func() {
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.replaced(r.run())
	})
}

func TestAnUpdateIsReadLikeASignalAndRefusedBeforeTheHistory(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		input any
		// refused is part of the answer; empty means that it is taken.
		refused string
	}{
		"an object":                   {rotation.DecisionMessage{By: "o", Why: "w"}, ""},
		"a field that does not exist": {map[string]any{"by": "o", "why": "w", "wyh": "x"}, `unknown field "wyh"`},
		"a text is the name, and a reason is missing": {"o", "needs a reason"},
		"a list":                            {[]int{1}, "it is a list"},
		"a key in a field that is none":     {map[string]any{"by": "o", "why": "w", "key": "sk-proj-0123456789abcdefghijklmnop"}, "looks like a key"},
		"a key as the name of a field":      {map[string]any{"sk-proj-0123456789abcdefghijklmnop": 1}, "looks like a key"},
		"a key in a field that it has":      {rotation.DecisionMessage{By: "o", Why: "sk-proj-0123456789abcdefghijklmnop"}, "looks like a key"},
		"a signature":                       {rotation.DecisionMessage{By: "o", Why: "w", Signature: "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgJKxoLBJBivUPNTUJUSslQTt2hD\njozKvHarKeN8uYFqgAAAADZm9vAAAAAAAAAFMAAAALc3NoLWVkMjU1MTkAAABAKNC4IEbt==\n-----END SSH SIGNATURE-----\n"}, ""},
		"a key in the place of a signature": {rotation.DecisionMessage{By: "o", Why: "w", Signature: "sk-proj-0123456789abcdefghijklmnop"}, "looks like a key"},
		"a private key in its place":        {rotation.DecisionMessage{By: "o", Why: "w", Signature: "-----BEGIN PRIVATE KEY-----\nAAAA"}, "looks like a key"},
		"nobody decides":                    {rotation.DecisionMessage{Why: "w"}, "say who decides"},
		"a length of time that is a word":   {map[string]any{"by": "o", "why": "w", "for": "long"}, `the field "for" is not a valid duration`},
	} {
		t.Run(what, func(t *testing.T) {
			r := newFixture(t, manualKey())
			a := &heard{T: t}
			r.after(time.Hour, func() { r.env.UpdateWorkflow(string(rotation.RollBack), "u", a, c.input) })
			r.after(2*time.Hour, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
			res := r.run()
			r.unchanged(res)
			switch {
			case c.refused == "" && (a.err != nil || !a.accepted):
				t.Errorf("it was refused: %v", a.err)
			case c.refused != "" && (a.accepted || a.err == nil || !strings.Contains(a.err.Error(), c.refused)):
				t.Errorf("accepted: %v; got %v, want %q", a.accepted, a.err, c.refused)
			case a.err != nil && strings.Contains(a.err.Error(), "0123456789"):
				t.Errorf("the answer repeats the key: %v", a.err)
			}
			if len(res.Decisions) != 1 {
				t.Errorf("decisions %v", res.Decisions)
			}
		})
	}
}

// heard keeps the answer to an Update.
type heard struct {
	*testing.T
	accepted bool
	err      error
}

func (h *heard) Accept()          { h.accepted = true }
func (h *heard) Reject(err error) { h.err = err }
func (h *heard) Complete(_ any, err error) {
	if err != nil {
		h.err = err
	}
}
