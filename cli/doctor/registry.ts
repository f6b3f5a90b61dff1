import { readSmallFile } from "../files.ts";
import { codeOf, findingsOf, reasonOf, type Examination } from "./finding.ts";
import { fixOf, isLoopback, probe, type Answer, type ProbeSettings } from "./probe.ts";

const noSuchDigest = `sha256:${"0".repeat(64)}`;

/** What a registry can do: the API at all, and the referrers API. Asked without credentials. Source: distribution-spec, "API". */
export const examineRegistry: Examination = async ({ shell, options, asked }) => {
  const { list, add } = findingsOf("registry");
  if (options.registry === undefined) {
    add(asked ? "fail" : "not-checked", "address", "no registry was named", "give --registry HOST[/REPOSITORY]");
    return list;
  }
  const [host = "", ...path] = options.registry.replace(/^docker:\/\//, "").split("/");
  const repository = path.length === 0 ? "ociseal/doctor" : path.join("/");
  if (!URL.canParse(`https://${host}/`) || !/^[a-z0-9._/-]+$/.test(repository)) {
    add("fail", "address", `${options.registry} is not HOST[/REPOSITORY]`, "for example ghcr.io/org/app, without a tag");
    return list;
  }
  try {
    const authorities = options.tlsCa === undefined ? undefined : (await readSmallFile(options.tlsCa, "certificate")).toString("utf8");
    const settings = { authorities, signal: shell.signal };
    const plain = options.plainHttp?.includes(host) === true;
    const { answer, scheme } = await ping(host, plain, settings);
    if (answer.status === 200) add("ok", "API", `${host} answers over ${scheme}`);
    else if (answer.status === 401) add("ok", "API", `${host} answers over ${scheme}, and asks for credentials`);
    else {
      add("fail", "API", `${host}/v2/ answers ${answer.status}`, "that host is no OCI registry; check name and port");
      return list;
    }
    const referrers = await probe(new URL(`${scheme}://${host}/v2/${repository}/referrers/${noSuchDigest}`), settings);
    judgeReferrers(add, referrers);
  } catch (error) {
    if (shell.signal.aborted) throw error;
    add("fail", "API", `${host}: ${reasonOf(error) || (codeOf(error) ?? "no answer")}`, fixOf(codeOf(error), "the registry"));
  }
  return list;
};

/** TLS, unless plain HTTP was allowed or the host is this machine and speaks no TLS. */
async function ping(host: string, plain: boolean, settings: ProbeSettings): Promise<{ answer: Answer; scheme: "http" | "https" }> {
  const url = (scheme: "http" | "https"): URL => new URL(`${scheme}://${host}/v2/`);
  if (plain) return { answer: await probe(url("http"), settings), scheme: "http" };
  try {
    return { answer: await probe(url("https"), settings), scheme: "https" };
  } catch (error) {
    if (!isLoopback(url("https"))) throw error;
    return { answer: await probe(url("http"), settings), scheme: "http" };
  }
}

function judgeReferrers(add: ReturnType<typeof findingsOf>["add"], { status, contentType, body }: Answer): void {
  if (status === 200 && contentType.includes("vnd.oci.image.index")) add("ok", "referrers API", "is there");
  else if (status === 401 || status === 403) add("not-checked", "referrers API", "cannot be asked without credentials");
  else if (body.includes("NAME_UNKNOWN"))
    add("not-checked", "referrers API", "needs a repository that exists", "give --registry HOST/REPOSITORY");
  else
    add(
      "warn",
      "referrers API",
      `is not there (${status})`,
      "nothing to do: the referrers tag is kept instead, which concurrent writers outside ociseal may break",
    );
}
