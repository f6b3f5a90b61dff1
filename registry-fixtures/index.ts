/** Fixture images, vendor profiles and fault scripts, for tests, the demonstration and benchmarks. Not part of the package. */
export { makeLayer, makeTar, type Compression, type FixtureLayer, type LayerEntry } from "./layer.ts";
export {
  makeImage,
  makeIndex,
  makeReferrer,
  pushImage,
  seedRegistry,
  type FixtureContent,
  type FixtureImage,
  type ImageSpec,
  type IndexSpec,
  type LayerSpec,
} from "./image.ts";
export { makeBusyboxImage, makeDemoImage, makeHelloImage, type DemoImageOptions } from "./demo-image.ts";
export { helloProgram } from "./elf.ts";
export { randomBytes, randomStream, syntheticBlob } from "./synthetic.ts";
export { faultNames, loadFaults, loadProfile, profileNames, type ProfileName } from "./catalogue.ts";
export { sendElsewhere } from "./hostile.ts";
