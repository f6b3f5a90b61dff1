// Names of images as users write them, normalised as docker does; no input or output.
import { formatImageName, parseImageName, parsePlatform } from "ociseal/oci";

console.log(formatImageName(parseImageName("alpine")));
console.log(parsePlatform("linux/arm64"));
