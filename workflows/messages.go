package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// maxMessage is how long a message is at most. Whatever is longer is not ours, and is not read: to search it for keys
// takes so long that Temporal takes a workflow that does it a few times for one that hangs, and what it says would have
// to travel along until the rotation ends.
const maxMessage = 16 << 10

// tooLong says what is wrong with a message that is not read.
func tooLong(payload *commonpb.Payload) string {
	if n := len(payload.GetData()); n > maxMessage {
		return fmt.Sprintf("it has %d bytes, and a message has at most %d; if it contains a key, treat that key as leaked", n, maxMessage)
	}
	return ""
}

// handleSignal takes a signal. Nobody waits for its answer, so what is wrong with it goes into the details.
func (r *runner) handleSignal(kind rotation.DecisionKind, payload *commonpb.Payload) {
	defer r.refreshDetails()
	if problem := tooLong(payload); problem != "" {
		r.Progress.Note = fmt.Sprintf("A signal %q was not read: %s.", kind, problem)
		return
	}
	if holdsKey(payload) {
		r.noteLeak(string(kind), keysIn(payload.GetData()))
		return
	}
	m, problem := read(kind, payload)
	if problem != "" {
		r.Progress.Note = fmt.Sprintf("A signal %q could not be read: %s. What it takes: %s", kind, problem, descriptions[kind])
		return
	}
	if m.By == "" {
		m.By = "somebody (signal)"
	}
	if m.Why == "" && m.Signature == "" && kind != rotation.AddNote {
		m.Why = "no reason given"
	}
	err := r.check(kind, m)
	switch {
	case err == nil:
		r.apply(kind, m)
	case r.isSettled(kind, m):
		// The same once more, too late: the first one did what it says.
	case !slices.Contains(r.decisionContext().Accepts(), kind) && r.bufferable(kind):
		r.Direction.Early = append(slices.DeleteFunc(r.Direction.Early, func(d rotation.Decision) bool {
			if d.Kind == kind {
				r.supplanted(d.Version, m.Version)
			}
			return d.Kind == kind
		}), rotation.Decision{Kind: kind, DecisionMessage: m.Bounded(), At: r.now()})
		r.Progress.Note = fmt.Sprintf("A signal %q came early. It is kept until it is needed.", kind)
	default:
		r.Progress.Note = fmt.Sprintf("A signal %q was not accepted: %s.", kind, err)
	}
}

// validateUpdate is the validator of an Update: what it refuses never enters the history.
func (r *runner) validateUpdate(kind rotation.DecisionKind, raw converter.RawValue) error {
	m, err := readUpdate(kind, raw)
	if err != nil {
		return err
	}
	return r.check(kind, m)
}

// readUpdate reads the input of an Update, as a signal's is read.
func readUpdate(kind rotation.DecisionKind, raw converter.RawValue) (rotation.DecisionMessage, error) {
	if problem := tooLong(raw.Payload()); problem != "" {
		return rotation.DecisionMessage{}, &rotation.RejectedDecision{Message: fmt.Sprintf("%s was not read: %s", kind, problem)}
	}
	if holdsKey(raw.Payload()) {
		return rotation.DecisionMessage{}, &rotation.RejectedDecision{Message: "this message contains what looks like a key. It was refused and is in no history, but it was sent over the network: treat that key as leaked, revoke it, and supply another with `rekey supply KEY`"}
	}
	m, problem := read(kind, raw.Payload())
	if problem != "" {
		return m, &rotation.RejectedDecision{Message: fmt.Sprintf("%s could not be read: %s. What it takes: %s", kind, problem, descriptions[kind])}
	}
	return m, nil
}

// signature is a field with an SSHSIG, in OpenSSH's frame or without: long, and no secret.
var signature = regexp.MustCompile(`"signature"\s*:\s*"[\\rn\s]*(-----BEGIN SSH SIGNATURE-----)?[\\rn\s]*U1NIU0lH[A-Za-z0-9+/=\\\s]*(-----END SSH SIGNATURE-----)?[\\rn\s]*"`)

// holdsKey reports whether what somebody sent holds what looks like a key, in any field, known or not.
func holdsKey(payload *commonpb.Payload) bool {
	return rotation.LooksLikeKey(string(signature.ReplaceAll(payload.GetData(), nil)))
}

// number is a version number as stores write it.
var number = regexp.MustCompile(`^[a-z]?[0-9]{1,18}$`)

// read reads what somebody sent, and forgives what is clear: nothing at all, a text or a number alone, a number where a
// text is wanted. A problem says what is wrong in words that can go into a sentence.
func read(kind rotation.DecisionKind, payload *commonpb.Payload) (m rotation.DecisionMessage, problem string) {
	m, problem = readAny(kind, payload)
	if problem == "" {
		problem = m.TooLong()
	}
	return m, problem
}

func readAny(kind rotation.DecisionKind, payload *commonpb.Payload) (m rotation.DecisionMessage, problem string) {
	data := bytes.TrimSpace(payload.GetData())
	if len(data) == 0 || bytes.Equal(data, []byte("null")) {
		return m, ""
	}
	var sent any
	if err := decode(data, &sent); err != nil {
		return m, "it is not valid JSON"
	}
	switch v := sent.(type) {
	case string:
		return readText(kind, strings.TrimSpace(v))
	case float64:
		if kind == rotation.KeySupplied && number.Match(data) {
			return rotation.DecisionMessage{Version: string(data)}, ""
		}
		return m, "it is a number"
	case bool:
		return m, "it is not an object"
	case []any:
		return m, "it is a list"
	case map[string]any:
		return readObject(v)
	}
	return m, ""
}

// readText takes a text alone for what the kind of message is about, else for who sends it.
func readText(kind rotation.DecisionKind, text string) (m rotation.DecisionMessage, problem string) {
	if strings.HasPrefix(text, "{") {
		var v map[string]any
		if decode([]byte(text), &v) == nil {
			return readObject(v) // an object in quotes
		}
	}
	d, err := rotation.ParseDuration(text)
	switch {
	case kind == rotation.KeySupplied && number.MatchString(text):
		m.Version = text
	case (kind == rotation.ExtendGrace || kind == rotation.ExtendDeadline) && err == nil:
		m.For = d
	case kind == rotation.AddNote:
		m.Why = text
	default:
		m.By = text
	}
	return m, ""
}

func readObject(fields map[string]any) (m rotation.DecisionMessage, problem string) {
	for _, name := range workflow.DeterministicKeys(fields) {
		n, isNumber := fields[name].(float64)
		one, isText := fields[name].(string)
		switch {
		case strings.EqualFold(name, "version") && isNumber:
			fields[name] = fmt.Sprintf("%.0f", n)
		case strings.EqualFold(name, "leaked") && isText:
			fields[name] = []string{one}
		}
	}
	err := decode(encode(fields), &m)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return m, ""
	case errors.As(err, &wrong):
		return m, fmt.Sprintf("the field %q cannot be a %s", wrong.Field, wrong.Value)
	case strings.Contains(err.Error(), "unknown field"):
		return m, strings.TrimPrefix(err.Error(), "json: ")
	default:
		return m, `the field "for" is not a valid duration such as "12h" or "2d"`
	}
}

// decode reads JSON. A field that into does not have is an error: a misspelt one would otherwise count as left out, and
// what is left out has a meaning.
//
//workflowcheck:ignore
func decode(data []byte, into any) error {
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return err
	}
	if in.More() {
		return errors.New("more than one value")
	}
	return nil
}

// encode writes what decode has read, which cannot fail.
//
//workflowcheck:ignore
func encode(fields map[string]any) []byte {
	data, _ := json.Marshal(fields)
	return data
}

// isSettled reports whether a decision with the same words was taken already.
func (r *runner) isSettled(kind rotation.DecisionKind, m rotation.DecisionMessage) bool {
	return slices.ContainsFunc(r.Carry.Decisions, func(d rotation.Decision) bool {
		return d.Kind == kind && d.By == m.By && d.Why == m.Why && d.Version == m.Version && d.For == m.For && d.Signature == m.Signature &&
			d.Question == m.Question && d.Fingerprint == m.Fingerprint &&
			d.RevokeFirst == m.RevokeFirst && slices.Equal(d.Leaked, m.Leaked)
	})
}

// bufferable reports whether a signal that comes before its phase is clear enough to be kept: a key for a rotation that
// will ask for one, a revocation of the old key when applications read the new one. Both are checked all the same.
func (r *runner) bufferable(kind rotation.DecisionKind) bool {
	switch kind {
	case rotation.KeySupplied:
		switch r.At.Commitment {
		case rotation.Looking:
			return !r.At.Step.Closed()
		case rotation.Staged, rotation.ForwardOnly:
			return r.Keys.Prepared.SupplyByHand && r.Keys.New == nil
		}
	case rotation.KeyRevoked:
		before := slices.Contains([]rotation.Phase{rotation.Grace, rotation.Guard, rotation.AwaitingApproval, rotation.Revoke}, r.At.Step.Phase())
		return before && !r.Direction.PublishedAt.IsZero() && r.Keys.Prepared.RevokeByHand
	}
	return false
}

// neverAskedFor leaves to a person what was kept for a phase that did not come: a key was made that nobody uses, or one was
// revoked that was to stay.
func (r *runner) neverAskedFor() {
	for _, d := range r.Direction.Early {
		text := fmt.Sprintf("%s sent %s at %s, and this rotation never asked for it.", d.By, d.Kind, details.Moment(d.At))
		if d.Kind == rotation.KeySupplied {
			which := "the key that was supplied"
			if d.Version != "" {
				which = "version " + d.Version + " of " + r.in.Key.Stores[0].String() + " and its key"
			}
			text += " Delete " + which + ", if nobody uses it: " + r.Keys.Prepared.ProviderConsole
		}
		r.followUp(text)
	}
	r.Direction.Early = nil
}

// takeEarly takes a signal that was kept for the present phase. It reports whether there was one.
func (r *runner) takeEarly(kind rotation.DecisionKind) bool {
	i := slices.IndexFunc(r.Direction.Early, func(d rotation.Decision) bool { return d.Kind == kind })
	if i < 0 {
		return false
	}
	d := r.Direction.Early[i]
	r.Direction.Early = slices.Delete(slices.Clone(r.Direction.Early), i, i+1)
	if r.check(kind, d.DecisionMessage) != nil {
		return false
	}
	r.apply(kind, d.DecisionMessage)
	return true
}
