package policy

import rego.v1

# More of Rego than the interpreter takes: with, walk, sprintf.
default allow := false

allow if {
	data.plugin == "resource"
	regex.match(`^default/image-key/[a-z]+$`, concat("/", data["resource-path"]))
	some device in input.submods
	measured(device)
	permitted with data.level as 2
	time.now_ns() < 4102444800000000000
}

measured(device) if {
	some path, value
	walk(device, [path, value])
	path[count(path) - 1] == "launch_digest"
	value in data.measurements
}

permitted if data.level >= 2

reasons contains sprintf("device %s has no measurement that is allowed", [name]) if {
	some name, device in input.submods
	not measured(device)
}
