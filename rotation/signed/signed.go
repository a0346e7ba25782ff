// Package signed judges decisions that operators sign with their SSH keys, for four eyes. Everything in it but Sign is a
// function of what it is given: it reads no clock and talks to nobody, so that workflows can call it.
package signed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/rekeyhq/rekey/rotation"
)

// skew is how far the clock of whoever signs may be off. Which question a signature is for does not depend on it: the
// moment at which that was asked is in the text.
const skew = 5 * time.Minute

// header names the form of Text. Another form gets another number, so that no signature counts for two.
const header = "rekey decision 2"

// Text is what an operator signs: one line for each field, its value in JSON, always all of them in this order.
// docs/security.md describes it. A field that is added or changes its meaning changes the header.
func Text(q rotation.Question, m rotation.DecisionMessage) []byte {
	var b bytes.Buffer
	b.WriteString(header + "\n")
	for _, f := range []struct {
		name  string
		value any
	}{
		{"decision", q.Kind},
		{"key", q.Key},
		{"revokes", append([]string{}, q.Revokes...)}, // none is a list as well: []
		{"namespace", q.Namespace},
		{"workflow", q.Workflow},
		{"rotation", q.Rotation},
		{"number", q.Number},
		{"subject", q.Subject},
		{"question", q.Text},
		{"effect", q.Effect},
		{"asked", stamp(q.Asked)},
		{"by", m.By},
		{"why", m.Why},
		{"id", m.ID},
		{"signed", stamp(m.SignedAt)},
	} {
		b.WriteString(f.name + ": ")
		// Lists, texts and numbers can always be encoded; Encode ends the line.
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(f.value)
	}
	return b.Bytes()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Check returns who signed a decision, or a *rotation.RejectedDecision that says why it does not count for a question and
// what to run instead. before are the decisions that count for it already.
func Check(q rotation.Question, m rotation.DecisionMessage, operators []rotation.Operator, before []rotation.Decision, now time.Time) (rotation.Signer, error) {
	none := rotation.Signer{}
	refuse := func(format string, args ...any) (rotation.Signer, error) {
		return none, &rotation.RejectedDecision{Message: fmt.Sprintf(format, args...) + ". " + advice(q)}
	}
	if m.Signature == "" {
		return refuse("%s of %s needs the signatures of %d different operators, and this message has none. The Temporal UI cannot sign", q.Kind, q.Key, rotation.Eyes)
	}
	s, err := Read(m.Signature)
	if err != nil {
		return refuse("the field \"signature\" holds no SSH signature that counts: %s", err)
	}
	if s.namespace != Namespace {
		return refuse("the signature is made for %q and not for %q (ssh-keygen -Y sign -n %s)", s.namespace, Namespace, Namespace)
	}
	signer, ok := owner(s.Key, operators)
	if !ok {
		return refuse("the key %s belongs to no operator: the worker's rekey.yaml names %s", ssh.FingerprintSHA256(s.Key), names(operators))
	}
	switch {
	case m.By != signer.Operator:
		return refuse("the key is %s's, but the message says it is by %q", signer.Operator, m.By)
	case m.SignedAt.Before(q.Asked.Add(-skew)):
		return refuse("it was signed at %s, before the present question was asked (%s)", stamp(m.SignedAt), stamp(q.Asked))
	case m.SignedAt.After(now.Add(skew)):
		return refuse("it says that it was signed at %s, which is in the future: is a clock wrong", stamp(m.SignedAt))
	case !s.Fits(Text(q, m)):
		return refuse("the signature is not over this message and the present question (number %d of rotation %s)", q.Number, q.Rotation)
	case slices.ContainsFunc(before, func(d rotation.Decision) bool {
		return d.Signer != nil && (d.Signer.Operator == signer.Operator || d.Signer.Fingerprint == signer.Fingerprint)
	}):
		return none, &rotation.RejectedDecision{Message: fmt.Sprintf("%s has signed this already; another operator has to: %s", signer.Operator, command(q))}
	}
	return signer, nil
}

// Count returns those of the signed decisions on a question that count by a list of operators: each for another operator.
func Count(q rotation.Question, decisions []rotation.Decision, operators []rotation.Operator) []rotation.Decision {
	var counted []rotation.Decision
	for _, d := range decisions {
		signer, err := Check(q, d.DecisionMessage, operators, counted, d.SignedAt)
		if err != nil || d.Kind != q.Kind {
			continue
		}
		d.Signer = &signer
		counted = append(counted, d)
	}
	return counted
}

// owner is the operator whose key it is.
func owner(key ssh.PublicKey, operators []rotation.Operator) (rotation.Signer, bool) {
	for _, o := range operators {
		if k, err := ParseKey(o.Key); err == nil && bytes.Equal(k.Marshal(), key.Marshal()) {
			return rotation.Signer{Operator: o.Name, Fingerprint: ssh.FingerprintSHA256(key)}, true
		}
	}
	return rotation.Signer{}, false
}

func names(operators []rotation.Operator) string {
	var all []string
	for _, o := range operators {
		all = append(all, o.Name)
	}
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, ", ")
}

// advice says what to run.
func advice(q rotation.Question) string { return "An operator runs: " + command(q) }

func command(q rotation.Question) string {
	if q.Kind == rotation.FinishGrace {
		return fmt.Sprintf("rekey finish-grace %s --why \"…\"", q.Key)
	}
	return "rekey approve " + q.Key
}
