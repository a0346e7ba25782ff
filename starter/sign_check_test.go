package main

import (
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/rotation"
)

func TestAnOperatorSignsOnlyForTheKeyThatTheyNamed(t *testing.T) {
	const firstRun = "3f6f9f8e-0b5a-4a57-9a32-5f6b0f8a8d11"
	e := expected{key: "dev-sandbox", namespace: "default", rotations: rotationIDs(firstRun)}
	honest := rotation.Question{
		Namespace: "default", Workflow: "rotate/dev-sandbox", Rotation: rotation.ID(firstRun), Key: "dev-sandbox", Kind: rotation.Approve,
		Subject: "revoke-policy", Text: "May the old key go?", Effect: "revoke the old key", Revokes: []string{"1234abcd"},
	}
	for sentence, c := range map[string]struct {
		change func(*rotation.Question)
		says   string // empty: it is signed
	}{
		"an honest question":                      {func(*rotation.Question) {}, ""},
		"a question of a rotation that followed":  {func(q *rotation.Question) { q.Rotation = rotation.ID(firstRun + "/3") }, ""},
		"a question about another key":            {func(q *rotation.Question) { q.Key = "ci" }, "another key (ci)"},
		"a question of another workflow":          {func(q *rotation.Question) { q.Workflow = "rotate/ci" }, "another workflow"},
		"a question of another namespace":         {func(q *rotation.Question) { q.Namespace = "production" }, "another namespace"},
		"a question of another rotation":          {func(q *rotation.Question) { q.Rotation = rotation.ID("another run") }, "another rotation"},
		"a question about nothing known":          {func(q *rotation.Question) { q.Subject = "a-prize" }, `does not know a question about "a-prize"`},
		"a text that hides a line":                {func(q *rotation.Question) { q.Text = "May ci go?\x1b[2K\rMay dev-sandbox go?" }, "characters that do not show"},
		"a text that runs from right to left":     {func(q *rotation.Question) { q.Text = "May \u202eci go?" }, "characters that do not show"},
		"an id with a line break":                 {func(q *rotation.Question) { q.Revokes = []string{"1234\nabcd"} }, "characters that do not show"},
		"another kind of decision for a question": {func(q *rotation.Question) { q.Kind = rotation.RollBack }, "does not know"},
	} {
		t.Run(sentence, func(t *testing.T) {
			q := honest
			q.Revokes = append([]string(nil), honest.Revokes...)
			c.change(&q)
			err := e.check(q)
			switch {
			case c.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v, want %q", err, c.says)
			case err != nil && strings.ContainsFunc(err.Error(), hides):
				t.Errorf("the refusal shows what it refuses: %q", err)
			}
		})
	}
}

func TestWhatAnOperatorReadsIsBuiltHere(t *testing.T) {
	s := rotation.Status{Key: "somebody's word", Provider: "somebody's word", Signing: &rotation.Signing{Needed: 2, Question: rotation.Question{
		Key: "ci", Rotation: "aaaaaaaa", Kind: rotation.Approve, Subject: "key-in-use", Text: "Shall we keep everything?", Effect: "keep everything", Revokes: []string{"1234abcd"},
	}}}
	text := asks(s, rotation.Operator{Name: "alice"}, "SHA256:x")
	for _, want := range []string{"for the key ci", "these are revoked, for good: 1234abcd", "it says    Shall we keep everything?"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "somebody's word") || strings.Contains(text, "keep everything\n") && !strings.Contains(text, "Shall we") {
		t.Errorf("it shows what is not signed:\n%s", text)
	}
}
