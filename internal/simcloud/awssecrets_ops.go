package simcloud

import (
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rekeyhq/rekey/secret"
)

var (
	awsName  = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)
	awsToken = regexp.MustCompile(`^[\x21-\x7e]{32,64}$`)
)

// operations are those of AWS that are simulated, by name. They run under mu.
func (m *AWSSecrets) operations() map[string]func(body []byte) (any, *awsError) {
	return map[string]func([]byte) (any, *awsError){
		"CreateSecret": m.createSecret, "DescribeSecret": m.describeSecret, "GetSecretValue": m.getSecretValue, "ListSecretVersionIds": m.listSecretVersionIds,
		"PutSecretValue": m.putSecretValue, "UpdateSecretVersionStage": m.updateSecretVersionStage, "RotateSecret": m.rotateSecret,
	}
}

// find returns a secret by name or complete ARN; nil if there is none. The caller holds mu.
func (m *AWSSecrets) find(id string) *awsSecret {
	if s := m.secrets[id]; s != nil {
		return s
	}
	for _, s := range m.secrets {
		if s.arn == id {
			return s
		}
	}
	return nil
}

func (m *AWSSecrets) must(id string) (*awsSecret, *awsError) {
	if s := m.find(id); s != nil {
		return s, nil
	}
	return nil, awsMissing("Secrets Manager can't find the specified secret.")
}

// spend counts a write against the quota.
func (m *AWSSecrets) spend() *awsError {
	if !m.opts.Quota {
		return nil
	}
	now := m.cloud.Now()
	m.writes = slices.DeleteFunc(m.writes, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(m.writes) >= awsWriteRate {
		return awsRefuse("ThrottlingException", "Rate exceeded")
	}
	m.writes = append(m.writes, now)
	return nil
}

// awsTime is how JSON 1.1 writes a moment: seconds since 1970, with a fraction.
func awsTime(t time.Time) json.Number {
	return json.Number(strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64))
}

func (m *AWSSecrets) createSecret(body []byte) (any, *awsError) {
	var in struct {
		Name, ClientRequestToken, Description, SecretString string
	}
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	switch {
	case !awsName.MatchString(in.Name):
		return nil, awsBad("Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
	case m.secrets[in.Name] != nil:
		return nil, awsRefuse("ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
	case !awsToken.MatchString(in.ClientRequestToken):
		return nil, awsBad("ClientRequestToken must be 32-64 characters long.")
	}
	s := m.newSecret(in.Name)
	answer := map[string]any{"ARN": s.arn, "Name": s.name}
	if in.SecretString != "" {
		answer["VersionId"] = m.add(s, in.ClientRequestToken, secret.FromString(in.SecretString), false, nil).id
	}
	return answer, nil
}

func (m *AWSSecrets) describeSecret(body []byte) (any, *awsError) {
	var in struct{ SecretId string } //nolint:revive // AWS's own spelling
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	answer := map[string]any{"ARN": s.arn, "Name": s.name, "CreatedDate": awsTime(s.created)}
	if stages := s.stages(); len(stages) > 0 {
		answer["VersionIdsToStages"] = stages
	}
	if s.lambda != "" {
		answer["RotationEnabled"], answer["RotationLambdaARN"] = s.rotating, s.lambda
	}
	return answer, nil
}

func (m *AWSSecrets) getSecretValue(body []byte) (any, *awsError) {
	var in struct{ SecretId, VersionId, VersionStage string } //nolint:revive // AWS's own spelling
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	if in.VersionId != "" && !awsToken.MatchString(in.VersionId) {
		return nil, awsBad("Invalid VersionId. Must be 32-64 characters long.")
	}
	var v *awsVersion
	what := "VersionId: " + in.VersionId
	switch {
	case in.VersionId != "":
		if v = s.version(in.VersionId); v != nil && in.VersionStage != "" && !slices.Contains(v.labels, in.VersionStage) {
			return nil, awsRefuse("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
		}
	default:
		what = "staging label: " + cmp.Or(in.VersionStage, awsCurrent)
		v = s.labelled(cmp.Or(in.VersionStage, awsCurrent))
	}
	if v == nil || v.value.IsEmpty() {
		return nil, awsMissing("Secrets Manager can't find the specified secret value for %s", what)
	}
	answer := map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id, "CreatedDate": awsTime(v.created)}
	if len(v.labels) > 0 {
		answer["VersionStages"] = v.labels
	}
	if v.binary {
		answer["SecretBinary"] = []byte(v.value.Reveal())
	} else {
		answer["SecretString"] = v.value.Reveal()
	}
	return answer, nil
}

func (m *AWSSecrets) listSecretVersionIds(body []byte) (any, *awsError) {
	var in struct {
		SecretId, NextToken string //nolint:revive // AWS's own spelling
		IncludeDeprecated   bool
		MaxResults          int
	}
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	start, err := strconv.Atoi(cmp.Or(in.NextToken, "0"))
	if err != nil || start < 0 || start > len(s.versions) {
		return nil, awsRefuse("InvalidNextTokenException", "Invalid NextToken.")
	}
	if in.MaxResults < 0 || in.MaxResults > 100 {
		return nil, awsBad("Invalid MaxResults. Must be 1-100.")
	}
	// Pages may hold fewer than asked for, also none (API reference). Here they are short, so that paging is tried.
	size := min(cmp.Or(in.MaxResults, 100), 3)
	end := min(start+size, len(s.versions))
	versions := []map[string]any{}
	for _, v := range s.versions[start:end] {
		if len(v.labels) > 0 || in.IncludeDeprecated {
			versions = append(versions, map[string]any{"VersionId": v.id, "VersionStages": v.labels, "CreatedDate": awsTime(v.created)})
		}
	}
	answer := map[string]any{"ARN": s.arn, "Name": s.name, "Versions": versions}
	if end < len(s.versions) {
		answer["NextToken"] = strconv.Itoa(end)
	}
	return answer, nil
}

func (m *AWSSecrets) putSecretValue(body []byte) (any, *awsError) {
	var in struct {
		SecretId, ClientRequestToken, RotationToken string //nolint:revive // AWS's own spelling
		SecretString                                *string
		SecretBinary                                []byte
		VersionStages                               []string
	}
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	if (in.SecretString == nil) == (in.SecretBinary == nil) {
		return nil, awsRefuse("InvalidRequestException", "You must provide SecretString or SecretBinary, and not both.")
	}
	data := in.SecretBinary
	if in.SecretString != nil {
		data = []byte(*in.SecretString)
	}
	switch {
	case !awsToken.MatchString(in.ClientRequestToken):
		return nil, awsBad("ClientRequestToken must be 32-64 characters long.")
	case len(data) == 0 || len(data) > awsMaxValue || in.SecretString != nil && !utf8.Valid(data):
		return nil, awsBad("The secret value must be between 1 and 65536 bytes.")
	case in.VersionStages != nil && (len(in.VersionStages) == 0 || len(in.VersionStages) > awsMaxLabels) || slices.ContainsFunc(in.VersionStages, badLabel):
		return nil, awsBad("VersionStages must have 1 to 20 labels of 1 to 256 characters.")
	}
	if e := m.spend(); e != nil {
		return nil, e
	}
	value := secret.New(data)
	if v := s.version(in.ClientRequestToken); v != nil && !v.value.IsEmpty() {
		// The same data: it succeeds and does nothing, so the labels stay as they are, too.
		if !v.value.Equal(value) || v.binary != (in.SecretBinary != nil) {
			return nil, awsRefuse("ResourceExistsException", "A resource with the ID you requested already exists.")
		}
		if m.overwrites {
			m.overwrite(s, v, in.VersionStages)
		}
		labels := v.labels
		if m.echoes && in.VersionStages != nil {
			labels = in.VersionStages
		}
		return map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id, "VersionStages": labels}, nil
	}
	if s.prune(m.cloud.Now()); len(s.versions) >= awsMaxVersions {
		return nil, awsRefuse("LimitExceededException", "You have reached the quota of versions of this secret.")
	}
	v := m.add(s, in.ClientRequestToken, value, in.SecretBinary != nil, in.VersionStages)
	return map[string]any{"ARN": s.arn, "Name": s.name, "VersionId": v.id, "VersionStages": v.labels}, nil
}

// overwrite returns a version these labels and no others; see OverwriteLabels. The caller holds mu.
func (m *AWSSecrets) overwrite(s *awsSecret, v *awsVersion, labels []string) {
	if labels == nil {
		labels = []string{awsCurrent}
	}
	v.labels = slices.DeleteFunc(v.labels, func(l string) bool { return !slices.Contains(labels, l) })
	for _, l := range labels {
		s.move(l, v)
	}
	m.publish(s)
}

func badLabel(label string) bool { return len(label) < 1 || len(label) > 256 }

// updateSecretVersionStage moves a label. That it is where the caller says is checked with the move, in one step: the
// API reference says that the operation fails if not. Which error it is, is not documented.
func (m *AWSSecrets) updateSecretVersionStage(body []byte) (any, *awsError) {
	var in struct{ SecretId, VersionStage, MoveToVersionId, RemoveFromVersionId string } //nolint:revive // AWS's own spelling
	if e := decode(body, &in); e != nil {
		return nil, e
	}
	s, e := m.must(in.SecretId)
	if e != nil {
		return nil, e
	}
	at, to := s.labelled(in.VersionStage), s.version(in.MoveToVersionId)
	switch {
	case badLabel(in.VersionStage) || in.MoveToVersionId == "" && in.RemoveFromVersionId == "":
		return nil, awsBad("You must provide a staging label, and a version to move it to or to remove it from.")
	case in.MoveToVersionId != "" && to == nil:
		return nil, awsMissing("Secrets Manager can't find the specified secret version.")
	case at == nil && in.RemoveFromVersionId != "":
		return nil, awsBad("Staging label %s is not attached to version %s.", in.VersionStage, in.RemoveFromVersionId)
	case at != nil && at != to && in.RemoveFromVersionId == "":
		return nil, awsBad("The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", in.VersionStage, at.id)
	case at != nil && in.RemoveFromVersionId != "" && at.id != in.RemoveFromVersionId:
		return nil, awsBad("Staging label %s is currently attached to version %s, not to %s.", in.VersionStage, at.id, in.RemoveFromVersionId)
	case to == nil && in.VersionStage == awsCurrent:
		return nil, awsBad("You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.")
	case to != nil && to != at && len(to.labels) >= awsMaxLabels:
		return nil, awsRefuse("LimitExceededException", "A version has at most 20 staging labels.")
	case to != nil && to.value.IsEmpty() && in.VersionStage == awsCurrent:
		return nil, awsRefuse("InvalidRequestException", "The version has no value.")
	}
	if e := m.spend(); e != nil {
		return nil, e
	}
	s.move(in.VersionStage, to)
	m.publish(s)
	return map[string]any{"ARN": s.arn, "Name": s.name}, nil
}
