# What people do with the AWS CLI from first to last. Prints its answers, a line each, as `name value`.
# In its folder are Houston_TX.tar.gz and Chicago_IL.tar.gz, each an XGBoost model.
set -eu

account=$(aws sts get-caller-identity --query Account --output text)
role=$(aws sts get-caller-identity --query Arn --output text)
bucket=cli-models-$account
aws s3 mb "s3://$bucket" >/dev/null
aws s3 cp Houston_TX.tar.gz "s3://$bucket/many/" --no-progress >/dev/null
aws s3 cp Chicago_IL.tar.gz "s3://$bucket/many/" --no-progress >/dev/null
echo "caller $role"
echo "listed $(aws s3 ls "s3://$bucket/many/" | awk '{print $4}' | tr '\n' ' ')"

aws sagemaker create-model --model-name cli --execution-role-arn "arn:aws:iam::$account:role/cli" --containers \
    "Image=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1,Mode=MultiModel,ModelDataUrl=s3://$bucket/many/" \
    >/dev/null
aws sagemaker create-endpoint-config --endpoint-config-name cli --production-variants \
    VariantName=AllTraffic,ModelName=cli,InstanceType=ml.m5.large,InitialInstanceCount=1 >/dev/null
aws sagemaker create-endpoint --endpoint-name cli --endpoint-config-name cli >/dev/null
aws sagemaker wait endpoint-in-service --endpoint-name cli

printf 1850,3,2,25 >body.csv
for city in Houston_TX Chicago_IL; do
    aws sagemaker-runtime invoke-endpoint --endpoint-name cli --content-type text/csv --accept text/csv \
        --target-model "$city.tar.gz" --body fileb://body.csv answer >/dev/null
    echo "$city $(cat answer)"
done
echo "logged $(aws logs filter-log-events --log-group-name /aws/sagemaker/Endpoints/cli --query 'length(events)')"
invocations=0
for _ in $(seq 30); do # metrics come a while after the calls
    invocations=$(aws cloudwatch get-metric-statistics --namespace AWS/SageMaker --metric-name Invocations \
        --dimensions Name=EndpointName,Value=cli Name=VariantName,Value=AllTraffic --period 60 --statistics Sum \
        --start-time "$(date -u -d '-15 minutes' +%FT%TZ)" --end-time "$(date -u -d '+1 minute' +%FT%TZ)" \
        --query 'sum(Datapoints[].Sum)' --output text)
    [ "$invocations" != 2.0 ] || break
    sleep 1
done
echo "invocations $invocations"

aws sagemaker delete-endpoint --endpoint-name cli
aws sagemaker wait endpoint-deleted --endpoint-name cli
aws sagemaker delete-endpoint-config --endpoint-config-name cli
aws sagemaker delete-model --model-name cli
aws s3 rb --force "s3://$bucket" >/dev/null
echo "left $(aws sagemaker list-endpoints --query 'length(Endpoints)' --output text)"
