package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
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

// signature is a field with an SSHSIG, in OpenSSH's frame or without: long, and no secret.
var signature = regexp.MustCompile(`"signature"\s*:\s*"[\\rn\s]*(-----BEGIN SSH SIGNATURE-----)?[\\rn\s]*U1NIU0lH[A-Za-z0-9+/=\\\s]*(-----END SSH SIGNATURE-----)?[\\rn\s]*"`)

// holdsKey reports whether what somebody sent contains what looks like a key, signatures left out.
func holdsKey(data []byte) bool {
	return rotation.LooksLikeKey(string(signature.ReplaceAll(data, nil)))
}

// number is a version number as stores write it.
var number = regexp.MustCompile(`^[a-z]?[0-9]{1,18}$`)

// unread is why a message was not read.
type unread struct {
	// problem follows the message's name in a sentence.
	problem string
	// holdsKey: it contains what looks like a key; keys are the fingerprints.
	holdsKey bool
	keys     []string
}

// read reads what somebody sent. A key in it is looked for first, in every field, known or not.
func read(kind rotation.DecisionKind, payload *commonpb.Payload) (rotation.DecisionMessage, *unread) {
	if problem := tooLong(payload); problem != "" {
		return rotation.DecisionMessage{}, &unread{problem: "was not read: " + problem}
	}
	if data := payload.GetData(); holdsKey(data) {
		return rotation.DecisionMessage{}, &unread{holdsKey: true, keys: keysIn(data)}
	}
	m, problem := parse(kind, payload.GetData())
	if problem == "" {
		problem = m.TooLong()
	}
	if problem != "" {
		return m, &unread{problem: fmt.Sprintf("could not be read: %s. What it takes: %s", problem, descriptions[kind])}
	}
	return m, nil
}

// parse forgives what is clear: nothing at all, a text or a number alone, a number where a text is wanted. A problem says
// what is wrong in words that can go into a sentence.
func parse(kind rotation.DecisionKind, data []byte) (m rotation.DecisionMessage, problem string) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || bytes.Equal(data, []byte("null")) {
		return m, ""
	}
	var sent any
	if err := decode(data, &sent); err != nil {
		return m, "it is not valid JSON"
	}
	switch v := sent.(type) {
	case string:
		return parseText(kind, strings.TrimSpace(v))
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
		return parseObject(v)
	}
	return m, ""
}

// parseText takes a text alone for what the kind of message is about, else for who sends it.
func parseText(kind rotation.DecisionKind, text string) (m rotation.DecisionMessage, problem string) {
	if strings.HasPrefix(text, "{") {
		var v map[string]any
		if decode([]byte(text), &v) == nil {
			return parseObject(v) // an object in quotes
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

func parseObject(fields map[string]any) (m rotation.DecisionMessage, problem string) {
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
