// Package awsrotation is the rotation function of AWS Secrets Manager: AWS calls it with four steps by its own schedule,
// and a rotation of rekey does the work. The function holds no key and sees none: it starts the rotation, or joins one
// that is under way, and reports to AWS how far it is.
package awsrotation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Step is what AWS asks for.
type Step string

// The steps, in AWS's order.
const (
	CreateSecret Step = "createSecret"
	SetSecret    Step = "setSecret"
	TestSecret   Step = "testSecret"
	FinishSecret Step = "finishSecret"
)

// Steps returns all steps in AWS's order.
func Steps() []Step { return []Step{CreateSecret, SetSecret, TestSecret, FinishSecret} }

// Event is one call of AWS. The RotationToken that AWS may send is not kept: it is a credential, for functions that
// write values, and this one writes none.
type Event struct {
	Step Step
	// SecretID is the secret's ARN, or its name.
	SecretID string
	// Token is the ClientRequestToken: the id of the version that AWS has made for the new value.
	Token string
}

// The bounds of an event: AWS's own for the fields.
const (
	maxEvent    = 16 << 10
	maxSecretID = 2048
)

var (
	awsToken = regexp.MustCompile(`^[\x21-\x7e]{32,64}$`)
	secretID = regexp.MustCompile(`^[A-Za-z0-9:/_+=.@-]+$`)
)

// ErrEvent means that a call is not a rotation event of AWS Secrets Manager. Repeating it does not help.
var ErrEvent = errors.New("this is not a rotation event of AWS Secrets Manager")

// ParseEvent reads the JSON of a call. Its errors are ErrEvent and quote nothing but the name of the step.
func ParseEvent(raw []byte) (Event, error) {
	if len(raw) > maxEvent {
		return Event{}, fmt.Errorf("%w: it is larger than %d bytes", ErrEvent, maxEvent)
	}
	var in struct {
		Step               *string
		SecretId           *string //nolint:revive // AWS's own spelling
		ClientRequestToken *string
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if d.Decode(&in) != nil {
		return Event{}, fmt.Errorf("%w: it is not a JSON object with the texts Step, SecretId and ClientRequestToken", ErrEvent)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Event{}, fmt.Errorf("%w: something follows the JSON object", ErrEvent)
	}
	switch {
	case in.Step == nil || in.SecretId == nil || in.ClientRequestToken == nil:
		return Event{}, fmt.Errorf("%w: it needs Step, SecretId and ClientRequestToken", ErrEvent)
	case !slices.Contains(Steps(), Step(*in.Step)):
		return Event{}, fmt.Errorf("%w: there is no step %q, expected createSecret, setSecret, testSecret or finishSecret", ErrEvent, short(*in.Step))
	case len(*in.SecretId) > maxSecretID || !secretID.MatchString(*in.SecretId):
		return Event{}, fmt.Errorf("%w: SecretId is neither an ARN nor a name of a secret", ErrEvent)
	case !awsToken.MatchString(*in.ClientRequestToken):
		return Event{}, fmt.Errorf("%w: ClientRequestToken does not have 32 to 64 characters", ErrEvent)
	}
	return Event{Step: Step(*in.Step), SecretID: *in.SecretId, Token: *in.ClientRequestToken}, nil
}

// short cuts what a stranger sent, for a message.
func short(text string) string {
	text = strings.ToValidUTF8(text, "")
	if r := []rune(text); len(r) > 30 {
		return string(r[:30]) + "…"
	}
	return text
}
