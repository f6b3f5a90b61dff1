import { expect, it } from "vitest";
import { settle, type Attempt } from "../../src/signing/settle.ts";

it("a signature that other writers replace each time ends in an error that says so", async () => {
  let rounds = 0;
  const attempt = (): Promise<Attempt> => {
    rounds += 1;
    return Promise.resolve({ outcome: "raced", saw: "news" });
  };
  await expect(settle({ subject: "tag sha256-0.sig", attempt }, {})).rejects.toMatchObject({
    code: "ERR_SIGNATURE_NOT_KEPT",
    category: "unavailable",
  });
  expect(rounds).toBeGreaterThan(50);
});
