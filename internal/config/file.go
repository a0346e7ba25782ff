package config

// The types below are rekey.yaml as people write it: every value is text, so that what is wrong with one is said
// with its line and column and in our own words. docs/configuration.md describes the fields.

type file struct {
	Install   string                  `yaml:"install"`
	Providers map[string]fileProvider `yaml:"providers"`
	Stores    map[string]fileStore    `yaml:"stores"`
	Tiers     map[string]filePolicy   `yaml:"tiers"`
	Keys      []fileKey               `yaml:"keys"`
	Operators []fileOperator          `yaml:"operators"`
	Triggers  *fileTriggers           `yaml:"triggers"`
	Channels  []fileChannel           `yaml:"channels"`
	UIURL     string                  `yaml:"ui_url"`
}

type fileProvider struct {
	Type string `yaml:"type"`
	// google-service-account
	Mode     string `yaml:"mode"`
	TokenURL string `yaml:"token_url"`
	// openai
	Organization string `yaml:"organization"`

	Endpoint       string `yaml:"endpoint"`
	RequestTimeout string `yaml:"request_timeout"`
	ListLag        string `yaml:"list_lag"`
	Propagation    string `yaml:"propagation"`
	RevocationLag  string `yaml:"revocation_lag"`
	Rate           string `yaml:"rate"`
	Concurrency    string `yaml:"concurrency"`
	// Accounts may be used besides those that the keys below name; a * stands for any text without a slash.
	Accounts []string `yaml:"accounts"`
}

type fileStore struct {
	Type string `yaml:"type"`
	// google-secret-manager
	Project string `yaml:"project"`
	Readers string `yaml:"readers"`
	// local
	Dir      string `yaml:"dir"`
	Identity string `yaml:"identity"`
	// aws-secrets-manager
	Region string `yaml:"region"`
	Role   string `yaml:"role"`

	Endpoint       string `yaml:"endpoint"`
	RequestTimeout string `yaml:"request_timeout"`
	ReadLag        string `yaml:"read_lag"`
	// Paths may be used besides those that the keys below name; a * stands for any text without a slash.
	Paths []string `yaml:"paths"`
}

type filePolicy struct {
	Period      string `yaml:"period"`
	Grace       string `yaml:"grace"`
	MaxGrace    string `yaml:"max_grace"`
	Quiet       string `yaml:"quiet"`
	UnknownUse  string `yaml:"unknown_use"`
	Approve     *bool  `yaml:"approve"`
	FourEyes    *bool  `yaml:"four_eyes"`
	Soak        string `yaml:"soak"`
	Patience    string `yaml:"patience"`
	Recheck     string `yaml:"recheck"`
	StepTimeout string `yaml:"step_timeout"`

	Window   *fileWindow `yaml:"window"`
	Blackout []string    `yaml:"blackout"`

	Notify        []string `yaml:"notify"`
	Escalate      []string `yaml:"escalate"`
	EscalateAfter string   `yaml:"escalate_after"`
	Remind        string   `yaml:"remind"`
}

type fileWindow struct {
	Days []string `yaml:"days"`
	From string   `yaml:"from"`
	To   string   `yaml:"to"`
	Zone string   `yaml:"zone"`
}

type fileChannel struct {
	Name string `yaml:"name"`
	Type string `yaml:"type"`
	// Where it is; a secret where it is Slack's.
	URL     string `yaml:"url"`
	URLFile string `yaml:"url_file"`
	URLEnv  string `yaml:"url_env"`
	// webhook
	SecretFile string `yaml:"secret_file"`
	SecretEnv  string `yaml:"secret_env"`
	// Outside of these hours it is quiet.
	Hours *fileWindow `yaml:"hours"`
}

type fileOperator struct {
	Name   string `yaml:"name"`
	SSHKey string `yaml:"ssh_key"`
}

type fileKey struct {
	Name     string         `yaml:"name"`
	Provider string         `yaml:"provider"`
	Account  string         `yaml:"account"`
	Stores   []fileLocation `yaml:"stores"`
	Tier     string         `yaml:"tier"`
	Policy   filePolicy     `yaml:"policy"`

	Paused        bool     `yaml:"paused"`
	ConflictsWith []string `yaml:"conflicts_with"`
}

type fileLocation struct {
	Store string `yaml:"store"`
	Path  string `yaml:"path"`
}

type fileTriggers struct {
	Listen  string                       `yaml:"listen"`
	Host    string                       `yaml:"host"`
	Rate    string                       `yaml:"rate"`
	Sources map[string]fileTriggerSource `yaml:"sources"`
}

type fileTriggerSource struct {
	Type       string   `yaml:"type"`
	SecretFile string   `yaml:"secret_file"`
	Keys       []string `yaml:"keys"`
	// github-secret-scanning
	SecretTypes map[string][]string `yaml:"secret_types"`
	// google-secret-rotate
	Audience       string `yaml:"audience"`
	ServiceAccount string `yaml:"service_account"`
	Store          string `yaml:"store"`
	ProjectNumber  string `yaml:"project_number"`
}
