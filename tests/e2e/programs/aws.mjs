// What a program on the AWS JavaScript SDK v3 does from first to last. Prints its answers as JSON.
// In its folder are Houston_TX.tar.gz and Chicago_IL.tar.gz, each an XGBoost model, and streams.tar.gz.
import { readFileSync } from "node:fs";
import { CloudWatch } from "@aws-sdk/client-cloudwatch";
import { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import { S3 } from "@aws-sdk/client-s3";
import {
  SageMaker, waitUntilEndpointDeleted, waitUntilEndpointInService,
} from "@aws-sdk/client-sagemaker";
import { SageMakerRuntime } from "@aws-sdk/client-sagemaker-runtime";
import { STS } from "@aws-sdk/client-sts";

const [sagemaker, runtime, s3, sts, cloudwatch, logs] = [
  new SageMaker(), new SageMakerRuntime(), new S3(), new STS(), new CloudWatch(), new CloudWatchLogs(),
];
const answers = {};
const { Account: account } = await sts.getCallerIdentity({});
answers.account = account;

const bucket = `js-models-${account}`;
await s3.createBucket({ Bucket: bucket });
for (const name of ["many/Houston_TX.tar.gz", "many/Chicago_IL.tar.gz", "streams.tar.gz"]) {
  await s3.putObject({ Bucket: bucket, Key: name, Body: readFileSync(name.replace("many/", "")) });
}

async function deploy(name, container) {
  await sagemaker.createModel({
    ModelName: name, ExecutionRoleArn: `arn:aws:iam::${account}:role/js`, Containers: [container],
  });
  await sagemaker.createEndpointConfig({
    EndpointConfigName: name,
    ProductionVariants: [{
      VariantName: "AllTraffic", ModelName: name, InstanceType: "ml.m5.large", InitialInstanceCount: 1,
    }],
  });
  await sagemaker.createEndpoint({ EndpointName: name, EndpointConfigName: name });
  await waitUntilEndpointInService({ client: sagemaker, minDelay: 1, maxWaitTime: 120 }, { EndpointName: name });
}

const registry = "683313688378.dkr.ecr.us-east-1.amazonaws.com";
await deploy("js-many", {
  Image: `${registry}/sagemaker-xgboost:1.7-1`, Mode: "MultiModel", ModelDataUrl: `s3://${bucket}/many/`,
});
for (const city of ["Houston_TX", "Chicago_IL"]) {
  const answer = await runtime.invokeEndpoint({
    EndpointName: "js-many", TargetModel: `${city}.tar.gz`, ContentType: "text/csv", Accept: "text/csv",
    Body: "1850,3,2,25",
  });
  answers[city] = Number(Buffer.from(answer.Body).toString());
}
try {
  await runtime.invokeEndpoint({ EndpointName: "js-many", TargetModel: "none.tar.gz", Body: "1" });
} catch (error) {
  answers.refused = [error.name, error.$metadata.httpStatusCode];
}

await deploy("js-stream", {
  Image: "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.1-cpu-py310", ModelDataUrl: `s3://${bucket}/streams.tar.gz`,
});
const streamed = await runtime.invokeEndpointWithResponseStream({
  EndpointName: "js-stream", ContentType: "application/json", Body: "3",
});
const parts = [];
for await (const event of streamed.Body) parts.push(Buffer.from(event.PayloadPart.Bytes).toString());
answers.streamed = parts.join("");

const { events } = await logs.filterLogEvents({ logGroupName: "/aws/sagemaker/Endpoints/js-stream" });
answers.logged = events.map(({ message }) => message);

for (let tries = 0; tries < 30 && answers.invocations !== 3; tries++) { // metrics come a while after the calls
  if (tries) await new Promise((resolve) => setTimeout(resolve, 1000));
  const now = Date.now();
  const found = await cloudwatch.getMetricStatistics({
    Namespace: "AWS/SageMaker", MetricName: "Invocations", Period: 60, Statistics: ["Sum"],
    Dimensions: [{ Name: "EndpointName", Value: "js-many" }, { Name: "VariantName", Value: "AllTraffic" }],
    StartTime: new Date(now - 900_000), EndTime: new Date(now + 60_000),
  });
  answers.invocations = found.Datapoints.reduce((sum, point) => sum + point.Sum, 0);
}

for (const name of ["js-many", "js-stream"]) {
  await sagemaker.deleteEndpoint({ EndpointName: name });
  await waitUntilEndpointDeleted({ client: sagemaker, minDelay: 1, maxWaitTime: 60 }, { EndpointName: name });
  await sagemaker.deleteEndpointConfig({ EndpointConfigName: name });
  await sagemaker.deleteModel({ ModelName: name });
}
const { Contents: objects } = await s3.listObjectsV2({ Bucket: bucket });
await s3.deleteObjects({ Bucket: bucket, Delete: { Objects: objects.map(({ Key }) => ({ Key })) } });
await s3.deleteBucket({ Bucket: bucket });
answers.left = (await sagemaker.listEndpoints({})).Endpoints.length;
console.log(JSON.stringify(answers));
