package featurestore

// Impatient makes the view give up at the first failure of a read.
func (v *RemoteView) Impatient() { v.retries = 0 }

// Plain is the endpoint without the directory that it was read from.
func (e Endpoint) Plain() Endpoint {
	e.dir = ""
	return e
}
