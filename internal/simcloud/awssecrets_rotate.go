package simcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// AWSLambda is a rotation function: it gets the JSON of one step.
type AWSLambda func(ctx context.Context, event []byte) error

// AWSRotationSteps are the steps of a rotation, in their order (AWS's user guide, rotation by Lambda function).
var AWSRotationSteps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}

// DeployLambda puts a rotation function behind an ARN.
func (m *AWSSecrets) DeployLambda(arn string, f AWSLambda) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lambdas[arn] = f
}

// rotateSecret sets the rotation function of a secret and makes the version that a rotation is to fill: AWSPENDING,
// without a value (AWS's user guide: the functions of AWS refuse a token that is not staged so before createSecret).
// While AWSPENDING stands on a version that is not AWSCURRENT, it refuses, and the rotation under way is taken up again
// (API reference, RotateSecret). AWS then calls the function by itself; here RunRotation does, when a test says so.
func (m *AWSSecrets) rotateSecret(body []byte) (any, *awsError) {
	var in struct {
		SecretId, ClientRequestToken, RotationLambdaARN string //nolint:revive // AWS's own spelling
		RotationRules                                   map[string]any
		RotateImmediately                               *bool
	}
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	if in.RotationLambdaARN != "" {
		if m.lambdas[in.RotationLambdaARN] == nil {
			return nil, awsRefuse("AccessDeniedException", "Secrets Manager cannot invoke the specified Lambda function.")
		}
		s.lambda, s.rotating = in.RotationLambdaARN, true
	}
	switch {
	case s.lambda == "":
		return nil, awsRefuse("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
	case !awsToken.MatchString(in.ClientRequestToken):
		return nil, awsBad("ClientRequestToken must be 32-64 characters long.")
	}
	if in.RotateImmediately != nil && !*in.RotateImmediately {
		return map[string]any{"ARN": s.arn, "Name": s.name}, nil
	}
	if pending := s.labelled(awsPending); pending != nil && pending != s.labelled(awsCurrent) {
		return nil, awsRefuse("InvalidRequestException", "A previous rotation isn't complete. That rotation will be reattempted.")
	}
	if s.version(in.ClientRequestToken) == nil {
		s.move(awsPending, m.newVersion(s, in.ClientRequestToken))
	}
	return map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": in.ClientRequestToken}, nil
}

// errUnfinished is how a rotation fails whose last step succeeded and left AWSPENDING behind.
var errUnfinished = errors.New("AWSPENDING is left on a version that is not AWSCURRENT")

// RunRotation calls the rotation function with the four steps for the version that RotateSecret has made, as AWS does,
// and once more for each retry: AWS begins the whole of it anew when a step fails (user guide). It stops at the first
// step that fails. At the end AWSPENDING must be on AWSCURRENT's version or nowhere (API reference).
func (m *AWSSecrets) RunRotation(ctx context.Context, name, token string) error {
	for _, step := range AWSRotationSteps {
		if err := m.RunStep(ctx, name, token, step); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[name]
	if p := s.labelled(awsPending); p != nil && p != s.labelled(awsCurrent) {
		return errUnfinished
	}
	return nil
}

// PendingToken returns the id of the version that a rotation of AWS is to fill, which is its ClientRequestToken.
func (m *AWSSecrets) PendingToken(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secrets[name]
	if s == nil || s.lambda == "" {
		return "", fmt.Errorf("simulated secret %q does not exist, or has no rotation function", name)
	}
	p := s.labelled(awsPending)
	if p == nil || p == s.labelled(awsCurrent) {
		return "", fmt.Errorf("no rotation of simulated secret %q is under way", name)
	}
	return p.id, nil
}

// RunStep calls the rotation function with one step. It gives AWS's event to it, with the ARN as SecretId.
func (m *AWSSecrets) RunStep(ctx context.Context, name, token, step string) error {
	m.mu.Lock()
	s := m.secrets[name]
	f := m.lambdas[s.lambda]
	event, err := json.Marshal(map[string]string{"Step": step, "SecretId": s.arn, "ClientRequestToken": token, "RotationToken": "00000000-1111-2222-3333-444444444444"})
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("simulated secret %q has no rotation function", name)
	}
	m.cloud.Record(Event{Kind: Called, Service: AWSSecretsService, Method: "Lambda:" + step, Target: s.arn, Version: token})
	return f(ctx, event)
}

// SetRotation turns the rotation of a secret on or off, as a person does in the console.
func (m *AWSSecrets) SetRotation(name string, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[name].rotating = on
}
