package policy

import rego.v1

trust_claims := object.union({"hardware": 97, "configuration": 36}, judged)

judged[claim] := value if {
	input.sample.launch_digest in query_reference_value("launch_digest")
	claim := "executables"
	value := 3
}

judged[claim] := value if {
	input.sample.svn == query_reference_value("svn")[_]
	claim := "hardware"
	value := 2
}

extensions := [{"name": "ociseal.seen", "key": -70005, "value": {"tee": object.keys(input)}}]
