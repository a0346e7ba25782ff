package triggers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/hmacsign"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// github is the webhook secret_scanning_alert of a repository or an organization.
type github struct {
	config.TriggerSource
	options Options
	secret  secret.Value
}

func (s *github) known(_ context.Context, h http.Header) *refusal {
	if h.Get("X-Hub-Signature-256") == "" {
		return refuse(http.StatusUnauthorized, "there is no X-Hub-Signature-256; give the webhook the secret of secret_file")
	}
	return nil
}

func (s *github) signed(h http.Header, body []byte) *refusal {
	if !hmacsign.Valid(h.Get("X-Hub-Signature-256"), s.secret, body) {
		return refuse(http.StatusUnauthorized, "the signature is not that of this delivery")
	}
	return nil
}

func (s *github) delivery(h http.Header) string { return h.Get("X-GitHub-Delivery") }
func (*github) acknowledges() bool              { return false }

func (s *github) read(h http.Header, body []byte) (asked, *refusal) {
	switch event := h.Get("X-GitHub-Event"); event {
	case "secret_scanning_alert":
	case "ping":
		return asked{why: "the webhook is set up"}, nil
	case "":
		return asked{}, refuse(http.StatusBadRequest, "there is no X-GitHub-Event")
	default:
		return asked{why: "only secret_scanning_alert is listened to"}, nil
	}
	a, no := parseAlert(body)
	if no != nil {
		return asked{}, no
	}
	if !slices.Contains([]string{"created", "reopened", "publicly_leaked"}, a.Action) {
		return asked{why: "an alert that is neither created nor reopened nor publicly_leaked asks for nothing"}, nil
	}
	// The id of the delivery is not signed: whoever repeats a delivery could give it another. The body is.
	in := workflows.TriggerInput{Delivery: hash(body), Leaked: true, Within: s.Keys, Why: a.why()}
	if a.Alert.Secret.IsEmpty() {
		return s.byType(in, a)
	}
	in.Fingerprints = s.options.Fingerprints(a.Alert.Secret.Value)
	return asked{in: &in}, nil
}

// byType takes the keys that rekey.yaml names for the type of an alert without the value.
func (s *github) byType(in workflows.TriggerInput, a alert) (asked, *refusal) {
	patterns := s.SecretTypes[a.Alert.SecretType]
	for _, k := range s.options.Keys {
		if len(patterns) > 0 && activities.Within(patterns, k.Name) && activities.Within(s.Keys, k.Name) {
			in.Keys = append(in.Keys, k.Name)
		}
	}
	switch {
	case len(in.Keys) == 0:
		return asked{}, refuse(http.StatusUnprocessableEntity, "the alert does not have the value, and secret_types of this source names no key for its type")
	case a.Alert.Validity == "inactive":
		return asked{why: "GitHub has found the value refused already"}, nil
	}
	if a.Action != "reopened" {
		// That it was created, and that it is public, are two deliveries about one leak.
		in.Leak = "github-alert/" + hash([]byte(a.Alert.URL))
	}
	return asked{in: &in}, nil
}

// alert is what rekey reads of GitHub's payload; it has many more fields.
type alert struct {
	Action string `json:"action"`
	Alert  struct {
		Number     int    `json:"number"`
		SecretType string `json:"secret_type"`
		Validity   string `json:"validity"`
		URL        string `json:"html_url"`
		// Secret is in some payloads only.
		Secret leaked `json:"secret"`
	} `json:"alert"`
	Repository struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// leaked is a value that is read straight into a secret.Value.
type leaked struct{ secret.Value }

// UnmarshalJSON implements json.Unmarshaler.
func (l *leaked) UnmarshalJSON(text []byte) error {
	var plaintext string
	if err := json.Unmarshal(text, &plaintext); err != nil {
		return fmt.Errorf("the value is not a text")
	}
	l.Value = secret.FromString(plaintext)
	return nil
}

func parseAlert(body []byte) (alert, *refusal) {
	var a alert
	if err := exact(body, &a); err != nil {
		return alert{}, refuse(http.StatusBadRequest, "the body is not the JSON of an alert; set the webhook's content type to application/json")
	}
	if a.Action == "" || a.Alert.SecretType == "" {
		return alert{}, refuse(http.StatusBadRequest, "the body is not an alert: action or alert.secret_type is missing")
	}
	return a, nil
}

var (
	repository = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$`)
	secretType = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
)

func (a alert) kind() string {
	if !secretType.MatchString(a.Alert.SecretType) || rotation.LooksLikeKey(a.Alert.SecretType) {
		return "(odd)"
	}
	return a.Alert.SecretType
}

// why says for the record where the leak was seen. Names from outside that could be anything are left out.
func (a alert) why() string {
	where := a.Repository.FullName
	if !repository.MatchString(where) {
		where = "(odd)"
	}
	why := fmt.Sprintf("GitHub secret scanning, alert %d of %s, type %s: %s", a.Alert.Number, where, a.kind(), a.Action)
	if rotation.LooksLikeKey(why) {
		return fmt.Sprintf("GitHub secret scanning, alert %d: %s", a.Alert.Number, a.Action)
	}
	return why
}
