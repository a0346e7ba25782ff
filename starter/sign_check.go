package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// maxRounds is how many rotations in one workflow an operator's command knows by their ids.
const maxRounds = 100

// expected is what an operator signs for: the key that they named, in the namespace that they work in. The question comes
// from whoever answers to the workflow's id, so nothing of it is signed that is not as expected.
type expected struct {
	key, namespace string
	// rotations are the ids that the workflow's rotations can have, by Temporal's record.
	rotations []string
}

// expect reads Temporal's record of a key's rotation.
func expect(ctx context.Context, c client.Client, key, namespace string) (expected, error) {
	d, err := c.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
	if err != nil {
		return expected{}, refused("no rotation of %s runs, so there is nothing to sign", key)
	}
	first := d.GetWorkflowExecutionInfo().GetFirstRunId()
	if first == "" {
		first = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	}
	return expected{key: key, namespace: namespace, rotations: rotationIDs(first)}, nil
}

// rotationIDs are the ids of the rotations of a workflow, which follow from its first run.
func rotationIDs(firstRun string) []string {
	ids := []string{rotation.ID(firstRun)}
	for n := 1; n <= maxRounds; n++ {
		ids = append(ids, rotation.ID(fmt.Sprintf("%s/%d", firstRun, n)))
	}
	return ids
}

// check refuses a question that is not about the expected key and rotation, that nobody here knows how to explain, or
// whose text could show something else than it says.
func (e expected) check(q rotation.Question) error {
	for _, f := range []struct {
		name, got string
		ok        bool
	}{
		{"key", q.Key, q.Key == e.key},
		{"workflow", q.Workflow, q.Workflow == workflows.ID(e.key)},
		{"namespace", q.Namespace, q.Namespace == e.namespace},
		{"rotation", q.Rotation, slices.Contains(e.rotations, q.Rotation)},
	} {
		if !f.ok {
			return refused("nothing was signed: the question that %s answers with is for another %s (%s). Somebody may want to have something else signed: look at the workflow in the Temporal UI", workflows.ID(e.key), f.name, plain(f.got))
		}
	}
	if meaning(q) == "" {
		return refused("nothing was signed: this command does not know a question about %q. Is it older than the worker?", plain(q.Subject))
	}
	for _, text := range append([]string{q.Text, q.Effect, q.Subject, string(q.Kind)}, q.Revokes...) {
		if strings.ContainsFunc(text, hides) {
			return refused("nothing was signed: the question has characters that do not show, so it could read as something else: %s", plain(text))
		}
	}
	return nil
}

// meaning says what a yes to a question does, from what it is about and what it revokes, and not from its text; empty if
// it is about nothing known.
func meaning(q rotation.Question) string {
	gone := strings.Join(q.Revokes, ", ")
	switch {
	case q.Kind == rotation.FinishGrace && q.Subject == "grace":
		return "the grace period ends now; then these can be revoked: " + gone
	case q.Kind != rotation.Approve:
		return ""
	}
	switch q.Subject {
	case "revoke-policy", "use-unknown", "key-in-use":
		return "these are revoked, for good: " + gone
	case "foreign-claim":
		return "the claim of another installation or rotation on the key's stores is taken over"
	case "unproven-keys":
		return "another key is made, and the keys or versions that the question names are left alone"
	case "changed-current":
		return "the value that somebody made current is replaced, and revoked in the end"
	case "keys-refused", "new-refused":
		return "the rotation goes on, although applications read a key that the provider refused"
	case "no-way-back":
		return "the old key is given up: the rotation goes forward and revokes it"
	case "not-revoked", "not-cleared", "not-enabled", "not-discarded", "cannot-go-on":
		return "what was refused is tried again"
	}
	return ""
}

// hides reports whether a character does not show, or changes how others do.
func hides(c rune) bool {
	return unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Zl, c) || unicode.Is(unicode.Zp, c) || c == unicode.ReplacementChar
}

// plain is a text from elsewhere for a terminal: what does not show is taken out, and it is not long.
func plain(text string) string {
	text = strings.Map(func(c rune) rune {
		if hides(c) {
			return -1
		}
		return c
	}, text)
	if r := []rune(text); len(r) > 500 {
		return string(r[:500]) + "…"
	}
	return text
}
